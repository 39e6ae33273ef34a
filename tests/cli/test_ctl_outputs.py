"""Every command before one busy gateway: what it prints, how it ends, and how wide that is."""

import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.containers import gatewayctl
from lab.control_schema import check_printed
from lab.desk import Desk, desk
from lab.terminals import COLUMNS, CTL, Pipe, Terminal

from gatewayd.cli.ctl import COMMANDS, GROUPS
from gatewayd.cli.options import SOCKET_VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

IMAGE = random.Random(5).randbytes(30_000)


@pytest.fixture(name="busy", scope="module")
def _busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One device that was updated, one in mid-transfer, one that waits for a person, one that is away."""
    with desk(tmp_path_factory.mktemp("ctl")) as whole:
        whole.configure(
            whole.device("pump-1").config(),
            whole.device("slow-1", rate=5_000).config(link={"baud": 115200}),
            whole.device("valve-1").config(install="manual"),
            whole.device("idle-1").config(),
            whole.device("gone-1").config(),
        )
        whole.devices["gone-1"].stop()
        whole.start()
        for app in ("pump", "valve"):
            whole.publish(app, "4.3.2", IMAGE)
        whole.publish("slow", "4.3.2", IMAGE * 60)
        whole.publish("gone", "4.3.2", IMAGE)
        whole.until_state("pump-1", "succeeded")
        whole.until_state("valve-1", "offered")
        whole.until_state("slow-1", "transferring")
        whole.until_state("idle-1", "idle")
        whole.until_state("gone-1", "queued", code="link_missing")
        yield whole


def test_devices(busy: Desk) -> None:
    devices = {device["name"]: device for device in busy.json("devices", "devices")["devices"]}
    assert list(devices) == ["pump-1", "slow-1", "valve-1", "idle-1", "gone-1"]
    assert (devices["pump-1"]["state"], devices["pump-1"]["installed_version"]) == ("succeeded", "4.3.2")
    assert devices["gone-1"]["link"]["health"] == "link_missing"
    (one,) = busy.json("devices", "devices", "gone-1")["devices"]
    assert one == devices["gone-1"] | {
        "attempt": one["attempt"],
        "code": one["code"],
        "reason": one["reason"],
    }
    told = busy.good("devices")
    assert re.search(r"^pump-1 +ok +4\.3\.2 +4\.3\.2 +succeeded +100 %$", told, re.MULTILINE)
    assert "5 devices on barn" in told


def test_jobs_and_job(busy: Desk) -> None:
    jobs = busy.json("jobs", "jobs")["jobs"]
    assert [job["id"] for job in jobs] == sorted((job["id"] for job in jobs), reverse=True)
    assert {job["device"] for job in busy.json("jobs", "jobs", "--active")["jobs"]} == {
        "slow-1",
        "valve-1",
        "gone-1",
    }
    (pump,) = busy.json("jobs", "jobs", "pump-1", "--limit", "1")["jobs"]
    story = busy.json("job", "job", pump["id"])
    assert story["job"] == pump
    assert [attempt["code"] for attempt in story["attempts"]] == [None]
    assert f"Job {pump['id']}: pump-1 from 4.3.1 to 4.3.2, succeeded" in busy.good("job", pump["id"])
    begun, changed = story["attempts"][0]["started_at"], pump["updated_at"]
    assert f" {begun[11:19]}Z " in busy.good("job", pump["id"]), "times are told with their zone"
    assert f" {changed[:10]} {changed[11:16]}Z\n" in busy.good("jobs", "pump-1")
    assert busy.good("jobs", "idle-1") == "There are no such jobs.\n"


def test_an_attempt_under_way_is_told_as_it_stands(busy: Desk) -> None:
    (slow,) = busy.json("jobs", "jobs", "slow-1")["jobs"]

    def standing() -> dict[str, int]:
        (attempt,) = busy.json("job", "job", slow["id"])["attempts"]
        assert (attempt["ended_at"], attempt["offset"]) == (None, 0)
        return dict(attempt)

    first = standing()
    busy.until(lambda: standing()["received_bytes"] > first["received_bytes"] + 9_000, "it gets on")
    last = standing()
    assert last["bytes_sent"] > first["bytes_sent"] + 9_000
    assert last["duration_s"] > first["duration_s"]
    story = busy.json("job", "job", slow["id"])
    assert story["job"]["durable_bytes"] >= last["received_bytes"]
    assert story["job"]["duration_s"] == 0, "of what has ended"
    assert re.search(r"^1 .* 0 B +[1-9].* under way$", busy.good("job", slow["id"]), re.MULTILINE)


def test_explain(busy: Desk, tmp_path: Path) -> None:
    told = busy.json("explain DEVICE", "explain", "valve-1")
    assert (told["forecast"]["code"], told["job"]["state"]) == ("update", "offered")
    (tmp_path / "empty").touch()
    message = busy.json("explain TOPIC MESSAGE", "explain", "/a/gone/u/4.3", tmp_path / "empty")
    ends = {one["device"]: one["ends"] for one in message["devices"]}
    assert ends["gone-1"]["code"] == "withdrawn"
    assert "would be" in busy.good("explain", "/a/gone/u/4.3", tmp_path / "empty")
    assert busy.good("explain", "valve-1").startswith("valve-1: ")


def test_scan_and_doctor(busy: Desk) -> None:
    port = busy.devices["gone-1"].port
    report = check_printed("scan uart", busy.run("scan", "uart", "--port", port, "--json").out)
    assert report["ports"][0]["configured_as"] == "gone-1"
    doctor = busy.run("doctor", "--config", busy.folder / "config.yaml", "--json")
    assert check_printed("doctor", doctor.out)["findings"]
    assert doctor.exit_code in (0, 1)


def test_doctor_asks_the_socket_that_is_named(busy: Desk, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.sock"
    ran = busy.run("doctor", "--config", busy.folder / "config.yaml", "--socket", nowhere)
    assert "nowhere.sock" in ran.out


def test_publish_prints_what_the_schema_says(busy: Desk) -> None:
    words = ("publish", "--config", busy.folder / "config.yaml", "--app", "nobody", "--version", "1.0.0")
    ran = busy.run(*words, busy.container(IMAGE), "--json")
    assert (ran.exit_code, check_printed("publish", ran.out)["topic"]) == (0, "/a/nobody/u/1.0")


def test_an_empty_file_is_not_published(busy: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty.bin").touch()
    words = ("publish", "--config", busy.folder / "config.yaml", "--app", "nobody", "--version", "1.0.0")
    ran = busy.run(*words, "--plain", tmp_path / "empty.bin", "--json")
    assert (ran.exit_code, json.loads(ran.out)["error"]["code"]) == (1, "empty_firmware")


REFUSALS = [
    ("no_such_device", "devices", ("devices", "pomp-1")),
    ("no_such_device", "jobs", ("jobs", "nothing")),
    ("no_such_job", "job", ("job", "4711")),
    ("no_such_device", "explain DEVICE", ("explain", "nothing")),
    ("no_such_device", "approve", ("approve", "nothing")),
    ("no_such_job", "approve", ("approve", "4711")),
    ("not_offered", "approve", ("approve", "gone-1")),
    ("no_active_job", "cancel", ("cancel", "pump-1")),
    ("no_active_job", "cancel", ("cancel", "idle-1")),
    ("offered", "retry", ("retry", "valve-1")),
    ("job_under_way", "retry", ("retry", "slow-1")),
    ("no_such_device", "pause", ("pause", "nothing")),
    ("no_such_device", "resume", ("resume", "nothing")),
    ("bad_request", "devices", ("devices", "x" * 100)),
    ("bad_request", "pause", ("pause", "")),
]


@pytest.mark.parametrize(("code", "command", "words"), REFUSALS, ids=lambda value: str(value)[:40])
def test_refusals(busy: Desk, code: str, command: str, words: tuple[str, ...]) -> None:
    error = busy.refused(command, *words)
    assert error["code"] == code
    if not words[-1].startswith("x"):
        assert words[-1] in error["message"], "it names what it is about"
    assert error["hint"] or code not in ("no_such_device", "no_such_job", "offered")


def test_of_several_all_is_done_that_can_be(busy: Desk) -> None:
    """Twice, with and without --json."""
    words = ("pause", "pump-1", "pomp-2", "idle-1", "pump-1")
    told = busy.run(*words)
    assert (told.exit_code, told.out) == (1, "pump-1 is paused\nidle-1 is paused\n")
    assert told.err == (
        "gatewayctl: there is no device 'pomp-2' in the configuration (did you mean pump-1?)\n"
    )
    ran = busy.run("resume", *words[1:], "--json")
    assert (ran.exit_code, ran.err) == (1, "")
    result = check_printed("resume", ran.out)
    assert [one["device"] for one in result["outcomes"]] == ["pump-1", "idle-1"]
    assert [(one["target"], one["error"]["code"]) for one in result["refused"]] == [
        ("pomp-2", "no_such_device")
    ]
    told = busy.run("cancel", "idle-1", "4711", "pump-1")
    assert (told.exit_code, told.out, told.err.count("\n")) == (1, "", 3)
    told = busy.run("retry", "4711", "gone-1")
    assert (told.exit_code, told.out.count("is tried now")) == (1, 1)
    assert "there is no job 4711" in told.err


def test_of_several_nobody_who_is_there_and_not_everything_is_paused(busy: Desk) -> None:
    ran = busy.run("pause", "pomp-1", "pomp-2")
    assert (ran.exit_code, ran.out, ran.err.count("no device")) == (1, "", 2)
    assert not any(view.paused for view in busy.views().values())


def test_other_forms_of_a_topic_are_refused(busy: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    error = busy.refused("explain TOPIC MESSAGE", "explain", "a/b/c\x1b[31m", tmp_path / "empty")
    assert error["code"] == "not_ours"


def test_explain_tells_a_near_miss(busy: Desk, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"\x02image")
    app = next(iter(busy.views().values())).app_id
    error = busy.refused("explain TOPIC MESSAGE", "explain", f"a/{app}/u/4.3", tmp_path / "message")
    assert f"did you mean /a/{app}/u/4.3?" in error["hint"]
    other = busy.run("explain", f"/a/{app}/u/9.0", tmp_path / "message").out
    assert "near miss: " in other
    assert "9.0 is another line" in " ".join(other.split())


ASKING = {
    "approve": ("x",),
    "cancel": ("x",),
    "devices": (),
    "explain": ("x",),
    "job": ("1",),
    "jobs": (),
    "pause": (),
    "push": ("x", "--version", "1.0.0", __file__),
    "reload": (),
    "resume": (),
    "retry": ("x",),
    "watch": (),
}


@pytest.mark.parametrize("command", ASKING)
def test_without_a_daemon_the_exit_code_is_75(tmp_path: Path, command: str) -> None:
    path = tmp_path / "control.sock"
    for socket_ in ("before", "after"):
        words = ("--socket", path, command) if socket_ == "before" else (command, "--socket", path)
        ran = gatewayctl(*words, *ASKING[command])
        assert (ran.exit_code, ran.out) == (75, "")
        assert ran.err == (
            f"gatewayctl: no gatewayd answers on {path}: No such file or directory"
            " (is it running? --socket names another socket)\n"
        )
        ran = gatewayctl(*words, *ASKING[command], "--json")
        name = {"explain": "explain DEVICE"}.get(command, command)
        assert check_printed(name, ran.out)["error"]["code"] == "daemon_unreachable"
        assert (ran.exit_code, ran.err) == (75, "")


def test_the_socket_may_be_named_by_the_environment(busy: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(busy.socket))
    assert gatewayctl("devices").exit_code == 0


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_wrong_usage_is_2_and_help_is_0(busy: Desk, command: str) -> None:
    ran = busy.run(command, "--no-such-option")
    assert (ran.exit_code, ran.out) == (2, "")
    assert "--no-such-option" in ran.err
    ran = busy.run(command, "--help")
    assert ran.exit_code == 0
    assert all(len(line) <= COLUMNS for line in ran.out.splitlines()), ran.out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("publsih",), "publish"),
        (("check",), "check-config"),
        (("check_config",), "check-config"),
        (("Devices",), "devices"),
        (("status",), "devices"),
        (("scan", "urat"), "uart"),
        (("fleet", "state"), "status"),
    ],
)
def test_a_command_that_is_misspelt_is_told_with_the_one_that_was_meant(
    words: tuple[str, ...], meant: str
) -> None:
    ran = gatewayctl(*words)
    assert (ran.exit_code, ran.out) == (2, "")
    assert f"Did you mean {meant}?" in ran.err
    assert "Did you mean" not in gatewayctl("xyzzy").err


def test_help_lists_each_command_once_by_what_it_is_for() -> None:
    lines = gatewayctl("--help").out.partition("Options:")[2].splitlines()
    told = [line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS]
    assert told == list(COMMANDS)
    assert [line for line in lines if line.removesuffix(":") in GROUPS] == [f"{title}:" for title in GROUPS]


def test_a_file_that_is_not_there_is_wrong_usage(busy: Desk, tmp_path: Path) -> None:
    assert busy.run("push", "pump-1", "--version", "4.3.3", tmp_path / "no").exit_code == 2
    assert busy.run("explain", "/a/pump/u/4.3", tmp_path / "no").exit_code == 2


def test_on_a_terminal_of_80_columns_nothing_is_wider(busy: Desk, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    slow = busy.jobs("slow-1")[0].id
    for words in (
        ("devices",),
        ("jobs",),
        ("job", slow),
        ("job", busy.jobs("pump-1")[0].id),
        ("job", busy.jobs("gone-1")[0].id),
        ("explain", "pump-1"),
        ("explain", "/a/pump/u/4.3", tmp_path / "empty"),
    ):
        with Terminal(busy.socket, *words) as terminal:
            assert terminal.end() == 0, terminal.text
            paths = [line for line in terminal.lines if str(busy.folder) in line]
            assert all(len(line) <= COLUMNS for line in terminal.lines if line not in paths), terminal.text
            assert "slow-1" in terminal.text or words[0] != "devices"


def test_watch_on_a_terminal(busy: Desk) -> None:
    with Terminal(busy.socket, "watch") as terminal:
        terminal.until(r"slow-1 +\S*━\S* +\d+ % +[\d.]+ KiB/s +[\d:]+ left")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
        assert "Traceback" not in terminal.text
        assert max(len(line) for line in terminal.lines) <= COLUMNS, terminal.lines
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l"), "the cursor is back"
        assert re.search(r"valve-1 +offered", terminal.text)


def test_watch_into_a_pipe(busy: Desk) -> None:
    with Pipe(busy.socket, "watch") as pipe:
        pipe.until(r"^gone-1  queued  4\.3\.1  link_missing: ")
        assert pipe.interrupt() == (0, "")
        assert re.match(r"slow-1  transferring  4\.3\.1 -> 4\.3\.2  \d+ %", pipe.lines[1])
        assert {line.split()[0] for line in pipe.lines} == {"pump-1", "slow-1", "valve-1", "idle-1", "gone-1"}
        assert "\x1b" not in "".join(pipe.lines)


def test_watch_as_json(busy: Desk) -> None:
    with Pipe(busy.socket, "watch", "--json") as pipe:
        pipe.until('"gone-1"')
        pipe.until(r'^\{"gateway":"barn","devices":\[\{"name":"slow-1"')
        assert pipe.interrupt() == (0, "")
    for line in pipe.lines:
        check_printed("watch", line)
    assert len(json.loads(pipe.lines[0])["devices"]) == 5


def test_who_reads_no_more_ends_it_without_a_word(busy: Desk) -> None:
    words = [*CTL, "--socket", str(busy.socket), "watch", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 1)
