"""The manual pages name what can be typed, and say it in the words of --help and the schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from lab.configuration import ROOT

from gatewayd.cli import roff
from gatewayd.cli.ctl import cli
from gatewayd.cli.daemon import command as daemon
from gatewayd.cli.manual import PAGES, page
from gatewayd.cli.web import command as web
from gatewayd.config import load

SCHEMA = json.loads((ROOT / "docs" / "config.schema.json").read_text())
_ESCAPES = {
    r"\-": "-",
    r"\(aq": "'",
    r"\(ga": "`",
    r"\(ti": "~",
    r"\(ha": "^",
    r"\fB": "",
    r"\fR": "",
    r"\&": "",
}


def read(name: str) -> str:
    """Return the words of a page, as a reader sees them."""
    text = re.sub(r"\\(?:-|\(..|f[BR]|&)", lambda found: _ESCAPES[found[0]], page(name))
    return text.replace(r"\e", "\\")


def typed(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield words
        return
    for name in command.list_commands(click.Context(command)):
        inner = command.get_command(click.Context(command), name)
        assert inner is not None
        yield from typed(inner, (*words, name))


def sections(name: str) -> dict[str, str]:
    """Return what stands under each `.SS`, by the words of the command in it."""
    parts = re.split(r"^\.SS (.*)\n", read(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("words", sorted(typed(cli)), ids="-".join)
def test_a_command_is_told_as_its_help_tells_it(words: tuple[str, ...]) -> None:
    help_text = (
        CliRunner().invoke(cli, [*words, "--help"], prog_name="gatewayctl", terminal_width=1000).output
    )
    usage, told, *_ = help_text.partition("\n")[0], *help_text.split("\n\n")[1:]
    section = sections("gatewayctl.1")[usage.removeprefix("Usage: ")]

    assert " ".join(told.replace("`", "").split()) in " ".join(section.split())
    for line in help_text.partition("\nOptions:\n")[2].splitlines()[:-1]:
        option, _, text = line.strip().partition("  ")
        assert f"\n{option}\n{' '.join(text.replace('`', '').split())}\n" in section


@pytest.mark.parametrize(("name", "program"), [("gatewayd.8", daemon), ("gatewayd-web.8", web)])
def test_a_programs_options_are_there(name: str, program: click.Command) -> None:
    told = read(name)
    for parameter in program.params:
        assert all(option in told for option in parameter.opts)


def keys(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "$ref" in schema:
        yield from keys(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], path)
    for one in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        yield from keys(one, path)
    for name, value in schema.get("properties", {}).items():
        yield path + name
        yield from keys(value, f"{path}{name}.")


@pytest.mark.parametrize("section", ["Gateway", "MqttSection", "KeyFiles", "Adapter", "Device"])
def test_every_key_is_there(section: str) -> None:
    terms = set(re.findall(r"^\.TP\n(.*)$", read("gatewayd.yaml.5"), re.MULTILINE))
    expected = set(keys(SCHEMA["$defs"][section]))
    assert expected
    assert expected <= terms


def test_every_section_of_the_file_is_there() -> None:
    headings = re.findall(r"^\.SH ([A-Z]+)", page("gatewayd.yaml.5"), re.MULTILINE)
    assert {section.upper() for section in SCHEMA["properties"]} <= set(headings)


def test_what_a_device_needs_is_said() -> None:
    told = read("gatewayd.yaml.5")
    assert "app_id, version are required, here or in defaults." in told
    assert "\n.TP\nname\nName of the device in topics, logs and commands. [text; required]\n" in told


def test_the_example_in_the_manual_is_a_configuration(tmp_path: Path) -> None:
    example = re.search(r"\.EX\n(.*?)\.EE", read("gatewayd.yaml.5"), re.DOTALL)
    assert example
    Draft202012Validator(SCHEMA).validate(yaml.safe_load(example[1]))
    (tmp_path / "config.yaml").write_text(example[1])
    assert [device.name for device in load(tmp_path / "config.yaml").devices] == ["pump-1"]


def test_pages_lead_to_each_other() -> None:
    for name in PAGES:
        others = {other.rpartition(".") for other in PAGES if other != name}
        assert all(f"{topic}({section})" in read(name) for topic, _, section in others)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"a\b", r"a\eb"),
        (".TH is no macro here", r"\&.TH is no macro here"),
        ("it's `--json`", r"it\(aqs \fB\-\-json\fR"),
    ],
)
def test_nothing_in_a_text_is_read_as_roff(text: str, written: str) -> None:
    assert roff.prose(text) == written
