"""Firmware by hand, and what a message would lead to: the planner's own answers."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab.desk import Desk, desk

from gatewayd.ota.container import Rom, build
from gatewayd.ota.keys import generate

pytestmark = pytest.mark.slow

IMAGE = random.Random(7).randbytes(30_000)
ABOUT_THE_FILE = ("bad_version", "key_file", "nested_container")
RELEASE = '"event": "release'


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("ctl")) as whole:
        bare = whole.device("bare-1").config(payload="standard")
        del bare["keys"]
        pump, tank = whole.device("pump-1").config(), whole.device("tank-1", rate=9_000).config()
        whole.configure(pump, bare, tank | {"link": tank["link"] | {"baud": 115200}})
        whole.start()
        for name in ("pump-1", "bare-1", "tank-1"):
            whole.until_state(name, "idle")
        yield whole


def test_a_pushed_container_arrives_byte_for_byte(barn: Desk) -> None:
    container = barn.container(IMAGE)
    (outcome,) = barn.json("push", "push", "pump-1", container, "--version", "4.3.2")["outcomes"]
    assert outcome["device"] == "pump-1"
    assert outcome["state"] in ("queued", "transferring")
    barn.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert barn.devices["pump-1"].active == IMAGE
    assert barn.jobs("pump-1")[0].topic == "push:pump-1"


def test_a_bare_image_for_a_device_that_takes_it(barn: Desk, tmp_path: Path) -> None:
    (tmp_path / "image.bin").write_bytes(IMAGE[:5000])
    barn.good("push", "bare-1", tmp_path / "image.bin", "--version", "4.3.2")
    barn.until_state("bare-1", "succeeded", installed_version="4.3.2")
    assert barn.devices["bare-1"].active == IMAGE[:5000]


def test_a_step_to_another_line_is_ordered_with_line(barn: Desk, tmp_path: Path) -> None:
    (tmp_path / "image.bin").write_bytes(IMAGE[5000:10_000])
    words = ("push", "bare-1", tmp_path / "image.bin", "--version", "4.4.0")
    assert "`push --line` with this file" in barn.refused("push", *words)["message"]
    barn.good(*words, "--line")
    barn.until_state("bare-1", "succeeded", installed_version="4.4.0")
    assert barn.devices["bare-1"].active == IMAGE[5000:10_000]
    # It does not unpack containers: that is worth a remark.
    ran = barn.run("push", "bare-1", barn.container(IMAGE), "--version", "4.4.1")
    assert "the whole container as its image" in ran.out
    barn.until_state("bare-1", "succeeded", installed_version="4.4.1")


def refusal(barn: Desk, container: Path, version: str, device: str = "pump-1") -> str:
    error = barn.refused("push", "push", device, container, "--version", version)
    assert device in error["message"] or error["code"] in ABOUT_THE_FILE, "it names the device"
    return error["code"]


def test_what_is_refused_leaves_nothing_behind(barn: Desk, tmp_path: Path) -> None:
    good = barn.container(IMAGE[::-1]).rename(tmp_path / "good.ota")
    unsigned = barn.container(IMAGE, "--no-sign").rename(tmp_path / "unsigned.ota")
    (tmp_path / "other.key").write_bytes(generate().to_file())
    (tmp_path / "rom.bin").write_bytes(IMAGE)
    foreign, rom = tmp_path / "foreign.ota", f"0x2000={tmp_path / 'rom.bin'}"
    barn.good("pack", "--key", tmp_path / "other.key", "--no-encrypt", "-o", foreign, rom)
    (tmp_path / "nested.ota").write_bytes(build([Rom(0x2000, good.read_bytes())], 1, None))
    (tmp_path / "empty").touch()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    before = len(barn.jobs("pump-1"))

    assert refusal(barn, barn.container(IMAGE), "4.3.9") == "up_to_date"
    assert refusal(barn, good, "4.3.1") == "not_newer"
    assert refusal(barn, good, "5.0.0") == "incompatible"
    assert refusal(barn, foreign, "4.3.9") == "bad_signature"
    assert refusal(barn, unsigned, "4.3.9") == "unsigned"
    assert refusal(barn, tmp_path / "rom.bin", "4.3.9") in ("decrypt_failed", "bad_magic")
    assert refusal(barn, tmp_path / "empty", "4.3.9") == "empty_firmware"
    assert refusal(barn, tmp_path / "other.key", "4.3.9") == "key_file"
    assert refusal(barn, tmp_path / "nested.ota", "4.3.9") == "nested_container"
    assert refusal(barn, good, "nonsense") == "bad_version"
    assert refusal(barn, good, "4.3.9", "pomp-1") == "no_such_device"
    error = barn.refused("push", "push", "pump-1", tmp_path / "large", "--version", "4.3.9")
    assert (error["code"], "mqtt.max_message_mib" in error["hint"]) == ("too_large", True)

    assert len(barn.jobs("pump-1")) == before
    assert barn.views()["pump-1"].code in (None, "up_to_date", "no_release")


def test_one_update_of_a_device_at_a_time(barn: Desk) -> None:
    barn.good("push", "tank-1", barn.container(IMAGE * 20), "--version", "4.3.2")
    barn.until_state("tank-1", "transferring")
    error = barn.refused("push", "push", "tank-1", barn.container(IMAGE), "--version", "4.3.3")
    assert (error["code"], "gatewayctl cancel tank-1" in error["hint"]) == ("job_under_way", True)
    barn.good("cancel", "tank-1")


def message(barn: Desk, patch: int, *options: str) -> bytes:
    return bytes([patch]) + barn.container(IMAGE, *options).read_bytes()


def has_come_in(barn: Desk, before: int) -> bool:
    return barn.log().count(RELEASE) > before


def is_decided(barn: Desk, device: str, code: str) -> bool:
    return bool(decided(barn, device)["code"] == code)


def decided(barn: Desk, device: str) -> dict[str, Any]:
    forecast: dict[str, Any] = barn.json("explain DEVICE", "explain", device)["forecast"]
    return forecast


@pytest.fixture(name="takes_containers", scope="module")
def _takes_containers(barn: Desk) -> Iterator[None]:
    """The device of the next test; one that nobody has pushed to or published for."""
    config = barn.gateway.config["devices"]
    config.append(barn.device("gate-1").config())
    barn.write()
    barn.good("reload")
    barn.until_state("gate-1", "idle")
    yield
    config.pop()
    barn.write()
    barn.good("reload")


@pytest.mark.usefixtures("takes_containers")
async def test_what_is_explained_is_what_happens(barn: Desk, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_bytes(generate().to_file())
    (tmp_path / "rom.bin").write_bytes(IMAGE)
    barn.good(
        "pack", "--key", tmp_path / "other.key", "--no-encrypt", "-o", tmp_path / "foreign.ota",
        f"0x2000={tmp_path / 'rom.bin'}",
    )  # fmt: skip
    topic, here = "/a/gate/u/4.3", "gate-1"
    cases = [
        ("bad_signature", topic, b"\x09" + (tmp_path / "foreign.ota").read_bytes()),
        ("unsigned", topic, message(barn, 9, "--no-sign")),
        ("not_newer", topic, message(barn, 0)),
        ("up_to_date", topic, message(barn, 1)),
        ("up_to_date", "/a/gate/u/4.4", message(barn, 9)),  # nothing to it: the device does not follow
        ("patch_truncated", topic, b"\xff"),
        ("no_release", topic, b""),
        ("update", topic, message(barn, 2)),
        ("up_to_date", topic, None),  # the same once more
    ]
    last = b""
    for name, at, content in cases:
        last = last if content is None else content
        (barn.folder / "message").write_bytes(last)
        answer = barn.json("explain TOPIC MESSAGE", "explain", at, barn.folder / "message")
        told = next(one for one in answer["devices"] if one["device"] == here)
        jobs, came_in = len(barn.jobs(here)), barn.log().count(RELEASE)
        await barn.gateway.send(at, last)
        if told["follows"] and content:
            barn.until(partial(has_come_in, barn, came_in), f"{name} came in")
        if told["would"] == "update":
            barn.until_state(here, "succeeded", installed_version=told["version"])
            assert len(barn.jobs(here)) == jobs + 1, name
            continue
        barn.until(partial(is_decided, barn, here, told["code"]), f"{name}: {told}")
        is_so = decided(barn, here)
        keys = ("would", "version", "refused", "code", "reason")
        assert {key: is_so[key] for key in keys} == {key: told[key] for key in keys}, name
        assert len(barn.jobs(here)) == jobs, name
        assert told["code"] == name, told
    assert barn.devices[here].active == IMAGE
