"""What the documentation says can be done: links lead somewhere, commands exist, examples load."""

import re
import shlex
from pathlib import Path

import click
import pytest

from gatewayd.cli.ctl import cli
from gatewayd.cli.daemon import command as daemon
from gatewayd.config import Host, load
from gatewayd.config.host import APPLICATION
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.keys import generate
from gatewayd.status.board import DeviceStatus

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("device/*.md"),
        *ROOT.glob("device/docs/*.md"),
    ]
)
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Never on a device's status: a superseded job gives way to the next, a cancelled one to the reason.
_UNSEEN = {JobState.SUPERSEDED, JobState.CANCELLED}


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in _FENCE.findall(page.read_text()) if language in languages]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """Every gatewayd, gatewayctl and make line of a page's shell blocks, as words."""
    lines = [line for body in blocks(page, "sh") for line in body.splitlines()]
    lines += [
        line for body in blocks(page, "console") for line in re.findall(r"(?<=^\$ ).*", body, re.MULTILINE)
    ]
    typed = [re.split(r"[|;\\]", line)[0] for line in lines if "'" not in line]
    words = [shlex.split(line, comments=True) for line in typed]
    named = [[Path(line[0]).name, *line[1:]] for line in words if line]
    return [line for line in named if line[0] in ("gatewayd", "gatewayctl", "make")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "docs" / "operations.md", ROOT / "docs" / "fleet.md"],
    ids=lambda page: page.name,
)
def test_commands_and_their_options_exist(page: Path) -> None:
    found = commands(page)
    assert found
    for name, *words in found:
        if name == "make":
            check_target(words)
            continue
        command: click.Command = cli if name == "gatewayctl" else daemon
        context = click.Context(command)
        while isinstance(command, click.Group):
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, found
            command = inner
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, words


def check_target(words: list[str]) -> None:
    folder = ROOT / words[1] if words[0] == "-C" else ROOT
    for target in words if folder == ROOT else words[2:]:
        assert re.search(rf"^{target}:", (folder / "Makefile").read_text(), re.MULTILINE), target


def test_options_in_running_text_exist() -> None:
    groups: list[click.Command] = [daemon]
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        groups += [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    known = {option for command in groups for parameter in command.params for option in parameter.opts}
    for page in (README, OPERATIONS):
        assert set(re.findall(r"`(--[a-z-]+)`", page)) <= known


def test_the_configuration_example_loads(tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "README.md", "yaml")
    key = generate()
    for name, content in (("decrypt.key.bin", key.decrypt_key), ("verify.key.bin", key.verify_key)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "config.yaml").write_text(example)

    settings = load(tmp_path / "config.yaml")

    assert [device.name for device in settings.devices] == ["pump-1", "pump-3"]
    assert settings.warnings == ()


def test_the_files_of_a_fleet_are_good_for_any_host(tmp_path: Path) -> None:
    for text in blocks(ROOT / "docs" / "fleet.md", "yaml"):
        name = text.splitlines()[0].removeprefix("# /etc/gatewayd/")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    settings = load(tmp_path / "config.yaml", Host("barn-pi", is_here=False))

    assert [file.name for file in settings.files] == ["config.yaml", "10-fleet.yaml", "50-devices.yaml"]
    assert (settings.gateway.id, settings.mqtt.username) == ("barn-pi", "barn-pi")
    assert [(device.name, device.app_id) for device in settings.devices] == [("pump-1", "pump")]
    assert {"was not checked" in warning.message for warning in settings.warnings} == {True}


def test_the_identifier_in_the_page_is_ours() -> None:
    assert f"--app-specific={APPLICATION}\n" in (ROOT / "docs" / "fleet.md").read_text()


def test_the_keys_of_a_status_are_documented() -> None:
    table = OPERATIONS.partition("| key | value |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` ", table, re.MULTILINE) == list(DeviceStatus("x", "idle").to_json())


def test_the_states_of_a_status_are_documented() -> None:
    table = OPERATIONS.partition("| state | what is true |")[2].partition("\n\n")[0]
    states = {str(state) for state in JobState if state not in _UNSEEN}
    settled = {"unknown", "unreachable", "idle", "refused"}
    assert set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)) == states | settled


def test_the_first_screen_shows_what_the_demo_prints() -> None:
    transcript, *_ = blocks(ROOT / "README.md", "console")
    demo = (ROOT / "gatewayd" / "cli" / "demo.py").read_text()
    for said in ("The line breaks, and the device loses power, at", "The device is back.", "resumed at byte"):
        assert said in transcript
        assert said in demo
    assert README.index("make test") < 4000, "the first screen"
