"""What the daemon has in force, as the doctor and check-config find it; what its sandbox hides."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lab.configuration import Lab
from lab.containers import gatewayctl
from lab.control_server import FakeOperations, serving
from lab.daemon_status import a_status

from gatewayd.control.caller import Caller
from gatewayd.control.messages import CheckConfigResult, Error
from gatewayd.control.replies import Result
from gatewayd.control.requests import AnyRequest
from gatewayd.doctor import Level
from gatewayd.doctor.account import Account
from gatewayd.doctor.in_force import find_control_socket, judge_in_force
from gatewayd.doctor.keys import examine_keys, hidden_folders

HIDDEN = Error(
    code="bad_configuration",
    message="1 mistake",
    mistakes=("config.yaml:9: keys.pump.verify_key_file: /root/v cannot be read: Permission denied.",),
)


def check(**values: Any) -> CheckConfigResult:
    return CheckConfigResult(**{"file": "config.yaml", "revision": "abc", "in_force": False} | values)


def judged(**values: Any) -> list[tuple[Level, str | None]]:
    return [(one.level, one.code) for one in judge_in_force(check(**values))]


def test_what_a_reload_would_find() -> None:
    assert judged(in_force=True) == [(Level.OK, None)]
    assert judged(changed=("pump-1",)) == [(Level.WARNING, "not_in_force")]
    restart = Error(code="restart_needed", message="gateway.id cannot change", hint="restart gatewayd")
    assert judged(error=restart) == [(Level.FAILURE, "restart_needed")]
    mistakes = tuple(f"config.yaml:{line}: bad." for line in range(9))
    bad = Error(code="bad_configuration", message="9 mistakes", mistakes=mistakes)
    assert judged(error=bad) == [(Level.FAILURE, "bad_configuration")] * 5


def test_what_was_changed_is_named() -> None:
    (finding,) = judge_in_force(check(added=("a", "b"), removed=("c",), mqtt=True))
    assert "not reloaded (added: a, b; removed: c; mqtt changed); revision abc stays in force" in finding.text
    assert finding.hint == "`gatewayctl reload` puts it into force"


class Daemon(FakeOperations):
    """Answers as a daemon that was started with `file`."""

    def __init__(self, file: Path, found: CheckConfigResult) -> None:
        super().__init__()
        self.file, self.found = file, found

    async def answer(self, request: AnyRequest, caller: Caller) -> AsyncIterator[Result]:  # noqa: ARG002 - the protocol's
        yield self.found if request.op == "check_config" else a_status(config_file=str(self.file))


def doctor(lab: Lab, found: CheckConfigResult, *, file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Run the doctor on the lab's file, beside a daemon that gives this answer; return findings by code."""
    with serving(lab.folder, Daemon(file or lab.file, found)):
        ran = gatewayctl("doctor", "--config", str(lab.file), "--json")
    return {one["code"] or one["subject"]: one for one in json.loads(ran.out)["findings"]}


def test_a_file_with_mistakes_is_told_beside_what_goes_on_without_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["control_socket"] = "control.sock"
    lab.tree["devices"][0]["version"] = "4.3"
    assert lab.errors()
    found = doctor(lab, check(error=HIDDEN))
    assert found["bad_configuration"]["text"] == (
        "gatewayd refuses the file: config.yaml:9: keys.pump.verify_key_file: /root/v cannot be read:"
        " Permission denied; revision abc stays in force"
    )
    assert doctor(lab, check(in_force=True))["in force"]["level"] == "ok"  # it reads what this user cannot


def test_another_file_is_in_force(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["control_socket"] = "control.sock"
    lab.tree["devices"][0]["version"] = "4.3"
    assert lab.errors()
    other = tmp_path / "other.yaml"
    assert (
        f"gatewayd runs with {other}, not with " in doctor(lab, check(), file=other)["not_in_force"]["text"]
    )


def test_no_daemon_and_a_file_that_none_can_start_with(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["control_socket"] = "control.sock"
    lab.tree["devices"][0]["version"] = "4.3"
    assert lab.errors()
    found = json.loads(gatewayctl("doctor", "--config", str(lab.file), "--json").out)["findings"]
    assert (
        "cannot start with this configuration"
        in {one["code"]: one["text"] for one in found}["daemon_unreachable"]
    )


@pytest.mark.parametrize("text", ["{", "gateway: {control_socket: 5}", "gateway: 7", "- a", "", None])
def test_a_file_that_names_no_socket_means_the_usual_one(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    assert find_control_socket(file) == Path("/run/gatewayd/control.sock")


def test_check_config_can_ask_the_daemon(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.tree["gateway"]["control_socket"] = "control.sock"
    lab.settings()
    words = ("check-config", str(lab.file), "--in-force")
    assert gatewayctl(*words).exit_code == 75
    with serving(tmp_path, Daemon(lab.file, check(in_force=True))):
        ran = gatewayctl(*words)
        assert (ran.exit_code, ran.out) == (0, f"{lab.file}: ok, 1 device, in force\n")
        assert json.loads(gatewayctl(*words, "--json").out)["in_force"] is True
    with serving(tmp_path, Daemon(lab.file, check(changed=("pump-1",)))):
        ran = gatewayctl(*words)
        assert (ran.exit_code, ran.out) == (1, "")
        assert "was changed and not reloaded (changed: pump-1)" in ran.err
    with serving(tmp_path, Daemon(lab.file, check(error=HIDDEN))):
        assert gatewayctl(*words).exit_code == 1


def test_what_a_unit_hides() -> None:
    assert hidden_folders({}) == ()
    assert hidden_folders({"ProtectHome": "no", "PrivateTmp": "no"}) == ()
    assert Path("/root") in hidden_folders({"ProtectHome": "yes", "PrivateTmp": "no"})
    found = hidden_folders({"ProtectHome": "read-only", "PrivateTmp": "yes"})
    assert [one.relative_to("/") for one in found] == [Path("tmp"), Path("var/tmp")]


def test_a_key_that_the_service_will_not_see(tmp_path: Path) -> None:
    settings = Lab(tmp_path).settings()
    account = Account.of_process(os.getpid())
    assert not [one for one in examine_keys(settings, account) if one.level is Level.FAILURE]
    found = list(examine_keys(settings, account, (tmp_path,)))
    assert {one.code for one in found} == {"file_unreadable"}
    assert {one.hint for one in found} == {"move it to /etc/gatewayd"}
