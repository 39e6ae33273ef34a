from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import DeviceError, FirmwareError
from gatewayd.ota.container import Container, Rom
from gatewayd.ota.rules import (
    RollbackMark,
    SlotMatch,
    check_identity,
    check_rollback,
    check_size,
    check_version,
    select_rom,
)
from gatewayd.ota.version import Line, Version

V431 = Version(4, 3, 1)
TWO_ROMS = Container(0, (Rom(0x2000, b"first"), Rom(0x202000, b"second")), signed=True, encrypted=False)
ONE_ROM = Container(0, (Rom(0x2000, b"only"),), signed=True, encrypted=False)
MARK = RollbackMark(1000, b"one")
EXACT, LOW20 = SlotMatch.EXACT, SlotMatch.LOW20


@pytest.mark.parametrize(
    ("offered", "plain", "downgrade"),
    [
        ("4.3.2", "", ""),
        ("4.3.1", "not_newer", "not_newer"),
        ("4.3.0", "not_newer", ""),
        ("4.4.2", "incompatible", "incompatible"),
        ("4.2.2", "incompatible", "incompatible"),
        ("5.3.2", "incompatible", "incompatible"),
    ],
)
def test_which_version_replaces_4_3_1(offered: str, plain: str, downgrade: str) -> None:
    for allow_downgrade, code in ((False, plain), (True, downgrade)):
        if not code:
            check_version(V431, Version.parse(offered), allow_downgrade=allow_downgrade)
            continue
        with pytest.raises(FirmwareError) as refused:
            check_version(V431, Version.parse(offered), allow_downgrade=allow_downgrade)
        assert refused.value.code == code
        assert offered in refused.value.message


@pytest.mark.parametrize(
    ("offered", "line", "plain", "downgrade"),
    [
        ("4.4.0", (4, 4), "", ""),
        ("5.0.0", (5, 0), "", ""),
        ("4.2.9", (4, 2), "not_newer", ""),
        ("4.3.2", (4, 4), "incompatible", "incompatible"),
        ("4.5.0", (4, 4), "incompatible", "incompatible"),
    ],
)
def test_which_version_of_another_line_replaces_4_3_1(
    offered: str, line: tuple[int, int], plain: str, downgrade: str
) -> None:
    for allow_downgrade, code in ((False, plain), (True, downgrade)):
        check = partial(check_version, line=Line(*line), allow_downgrade=allow_downgrade)
        if not code:
            check(V431, Version.parse(offered))
            continue
        with pytest.raises(FirmwareError) as refused:
            check(V431, Version.parse(offered))
        assert refused.value.code == code


def test_the_refusal_names_the_way_to_another_line() -> None:
    with pytest.raises(
        FirmwareError, match=r'line: "4\.4" in the configuration takes the step, or `push --line`'
    ):
        check_version(V431, Version(4, 4, 0), allow_downgrade=False)


@given(st.builds(Version, *[st.integers(0, 3)] * 3), st.builds(Version, *[st.integers(0, 3)] * 3))
def test_no_two_versions_replace_each_other(one: Version, other: Version) -> None:
    def replaces(offered: Version, installed: Version) -> bool:
        try:
            check_version(installed, offered, allow_downgrade=False)
        except FirmwareError:
            return False
        return True

    assert not (replaces(one, other) and replaces(other, one))


@pytest.mark.parametrize(
    ("expected", "got", "code"),
    [
        (("pump", None), ("pump", None), ""),
        (("pump", None), ("pump", "rev-c"), ""),
        (("pump", "rev-b"), ("pump", "rev-b"), ""),
        (("pump", "rev-b"), ("pump", "rev-c"), "wrong_hardware"),
        (("pump", "rev-b"), ("pump", None), "wrong_hardware"),
        (("pump", "rev-b"), ("tag", "rev-b"), "wrong_app"),
        (("pump", None), ("", None), "wrong_app"),
        (("pump", None, None), ("pump", None, "board-7"), ""),
        (("pump", None, "board-7"), ("pump", None, "board-7"), ""),
        (("pump", None, "board-7"), ("pump", None, "board-8"), "wrong_device"),
        (("pump", None, "board-7"), ("pump", None, None), "wrong_device"),
    ],
)
def test_the_device_is_the_one_that_is_meant(
    expected: tuple[str | None, ...], got: tuple[str | None, ...], code: str
) -> None:
    app_id, hardware_id, device_id = (*expected, None)[:3]
    said = dict(zip(("got_app", "got_hardware", "got_device"), (*got, None), strict=False))
    assert app_id is not None
    if not code:
        check_identity(app_id, hardware_id, device_id, **said)
        return
    with pytest.raises(DeviceError) as refused:
        check_identity(app_id, hardware_id, device_id, **said)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("mark", "timestamp_ms", "sha256", "passes"),
    [
        (None, 0, b"one", True),
        (MARK, None, b"", True),
        (MARK, 1001, b"two", True),
        (MARK, 1000, b"one", True),
        (MARK, 1000, b"two", False),
        (MARK, 999, b"one", False),
        (MARK, 0, b"two", False),
    ],
)
def test_the_rollback_mark(
    mark: RollbackMark | None, timestamp_ms: int | None, sha256: bytes, passes: bool
) -> None:
    check_rollback(mark, timestamp_ms, sha256, allow_downgrade=True)
    if passes:
        check_rollback(mark, timestamp_ms, sha256, allow_downgrade=False)
        return
    with pytest.raises(FirmwareError) as refused:
        check_rollback(mark, timestamp_ms, sha256, allow_downgrade=False)
    assert refused.value.code == "rollback"
    assert "1900-01-01T00:00:01.000Z" in refused.value.message
    assert "1000" not in refused.value.message, "milliseconds since 1900 tell a person nothing"


@pytest.mark.parametrize(
    ("container", "slot_address", "match", "content"),
    [
        (TWO_ROMS, 0x2000, EXACT, b"first"),
        (TWO_ROMS, 0x202000, EXACT, b"second"),
        (TWO_ROMS, 0x202000, LOW20, b"second"),  # the exact address before the first that matches
        (TWO_ROMS, 0x2000, LOW20, b"first"),
        (TWO_ROMS, 0x402000, LOW20, b"first"),
        (ONE_ROM, 0x102000, LOW20, b"only"),
        (ONE_ROM, None, EXACT, b"only"),
        (ONE_ROM, None, LOW20, b"only"),
    ],
)
def test_the_rom_for_a_slot(
    container: Container, slot_address: int | None, match: SlotMatch, content: bytes
) -> None:
    assert select_rom(container.roms, slot_address, match).content == content


@pytest.mark.parametrize(
    ("container", "slot_address", "match", "says"),
    [
        (TWO_ROMS, 0x402000, EXACT, "low20 would match"),
        (TWO_ROMS, 0x3000, EXACT, "0x3000"),
        (TWO_ROMS, 0x3000, LOW20, "0x2000, 0x202000"),
        (TWO_ROMS, None, EXACT, "no slot address"),
        (ONE_ROM, 0, EXACT, "at 0x0"),
    ],
)
def test_no_rom_for_a_slot(
    container: Container, slot_address: int | None, match: SlotMatch, says: str
) -> None:
    with pytest.raises(FirmwareError) as refused:
        select_rom(container.roms, slot_address, match)
    assert refused.value.code == "no_rom_for_slot"
    assert says in str(refused.value)


def test_an_image_must_fit_its_slot() -> None:
    check_size(1000, None)
    check_size(1000, 1000)
    with pytest.raises(FirmwareError) as refused:
        check_size(1001, 1000)
    assert refused.value.code == "too_large"
