"""The schema is what the models say today, and says no less than they do."""

import json
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError
from lab.containers import gatewayctl
from lab.control_schema import SCHEMA, SCHEMA_FILE, check, check_printed, check_reply

from gatewayd.cli.ctl import COMMANDS
from gatewayd.cli.schema import json_schema, schema_text
from gatewayd.control import messages, replies
from gatewayd.control.requests import REQUEST, AnyRequest

# Until Ctrl-C or a signal, or text for a shell.
WITHOUT_JSON = {"completion", "demo", "notify", "simulate"}


def test_the_schema_in_the_repository_is_current() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json.loads(schema_text()), (
        "docs/control.schema.json is stale: write it anew with `python -m gatewayd.cli.schema`"
    )


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_request_result_and_command_is_in_it() -> None:
    requests = {one["$ref"].rsplit("/")[-1] for one in SCHEMA["$defs"]["Request"]["oneOf"]}
    assert requests == {model.__name__ for model in get_args(get_args(AnyRequest)[0])}
    results = {
        one["$ref"].rsplit("/")[-1] for one in SCHEMA["$defs"]["Success"]["properties"]["result"]["anyOf"]
    }
    assert results == {model.__name__ for model in get_args(replies.Result)}
    assert {name.split()[0] for name in SCHEMA["printed"]} == COMMANDS.keys() - WITHOUT_JSON


@pytest.mark.parametrize(
    "request_",
    [
        {"v": 1, "op": "status"},
        {"op": "devices", "names": ["pump-1"]},
        {"v": 1, "op": "retry", "targets": ["7"]},
        {"v": 1, "op": "pause", "devices": []},
        {"v": 1, "op": "job", "id": 7},
    ],
    ids=lambda request_: request_["op"],
)
def test_a_request_that_the_daemon_takes_fits(request_: dict[str, object]) -> None:
    REQUEST.validate_python(request_)
    check(request_, {"$ref": "#/$defs/Request"})


@pytest.mark.parametrize(
    "request_",
    [
        {"v": 2, "op": "status"},
        {"v": 1},
        {"v": 1, "op": "status", "more": 1},
        {"v": 1, "op": "retry", "targets": []},
        {"v": 1, "op": "job", "id": 0},
        {"v": 1, "op": "no-such-thing"},
    ],
    ids=str,
)
def test_a_request_that_the_daemon_refuses_does_not(request_: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        REQUEST.validate_python(request_)
    with pytest.raises(ValidationError):
        check(request_, {"$ref": "#/$defs/Request"})


def test_an_older_client_passes_over_what_a_newer_daemon_adds() -> None:
    outcome = {"device": "pump-1", "job": None, "state": None, "text": "it goes on", "mood": "good"}
    result = messages.OutcomesResult.model_validate({"outcomes": [outcome], "more": 1})
    assert result.outcomes[0].device == "pump-1"
    check_with_more = {"v": 1, "ok": True, "result": {"outcomes": [outcome], "refused": []}}
    Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": "#/$defs/Reply"}).validate(check_with_more)
    with pytest.raises(ValidationError):  # what this version does not name, these tests do not let through
        check_reply(json.dumps(check_with_more))


def test_commands_that_make_files_print_what_the_schema_says(tmp_path: Path) -> None:
    (tmp_path / "rom.bin").write_bytes(b"image")
    made = check_printed("keygen", gatewayctl("keygen", "-o", tmp_path / "ota.key", "--json").out)
    again = gatewayctl("keygen", "-o", tmp_path / "ota.key", "--json")
    assert check_printed("keygen", again.out)["error"]["code"] == "file_exists"
    assert again.exit_code == 1
    words = ("pack", "--key", made["ota_key"], "-o", tmp_path / "out.ota", f"0x2000={tmp_path / 'rom.bin'}")
    packed = check_printed("pack", gatewayctl(*words, "--json").out)
    assert packed["roms"][0]["size"] == 5


def test_check_config_prints_what_the_schema_says(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("mqtt: {host: broker, prot: 1}\ndevices: []\n")
    ran = gatewayctl("check-config", tmp_path / "bad.yaml", "--json")
    assert (ran.exit_code, check_printed("check-config", ran.out)["ok"]) == (78, False)
    (tmp_path / "good.yaml").write_text("mqtt: {host: 127.0.0.1}\ndevices: []\n")
    ran = gatewayctl("check-config", tmp_path / "good.yaml", "--json")
    assert (ran.exit_code, check_printed("check-config", ran.out)["ok"]) == (0, True)
