import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.containers import KEY, VECTORS

from gatewayd.errors import ConfigError
from gatewayd.ota.keys import KeySet, OtaKey, find_shared_keys, generate, parse_ota_key, parse_raw_key

ONE, TWO = bytes(32), bytes([1]) * 32


def test_the_derived_keys_are_those_of_otatool() -> None:
    assert KEY.verify_key == (VECTORS / "verify.key.bin").read_bytes()
    assert KEY.decrypt_key == (VECTORS / "decrypt.key.bin").read_bytes()


def test_the_key_file_is_written_as_otatool_writes_it() -> None:
    assert KEY.to_file() == (VECTORS / "ota.key").read_bytes()


@given(st.binary(min_size=64, max_size=64), st.sampled_from([b"", b"\n", b" \r\n"]))
def test_key_files_round_trip(raw: bytes, end: bytes) -> None:
    key = OtaKey(raw[:32], raw[32:])
    assert parse_ota_key(key.to_file() + end) == key


def test_a_new_key_is_new() -> None:
    first, second = generate(), generate()
    assert len({first.seed, first.stream_key, second.seed, second.stream_key}) == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"00" * 63, b"00" * 65, b"0g" * 64, bytes(64), bytes(128), b"0" * 127, b"00 " * 64, b"\xff" * 128],
)
def test_what_is_no_key_file_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_ota_key(content)
    assert refused.value.code == "bad_key"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_raw_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_raw_key(bytes(size), "verify.key.bin")
    assert refused.value.code == "bad_key"
    assert "verify.key.bin" in refused.value.message
    assert str(size) in refused.value.message


def test_an_ota_key_in_the_place_of_a_raw_key_is_recognised() -> None:
    with pytest.raises(ConfigError, match="ota_key_file"):
        parse_raw_key((VECTORS / "ota.key").read_bytes(), "decrypt.key.bin")


@pytest.mark.parametrize("keys", [(b"short", None), (None, b"short"), (b"", None)])
def test_a_key_set_refuses_keys_of_another_length(keys: tuple[bytes | None, bytes | None]) -> None:
    with pytest.raises(ConfigError) as refused:
        KeySet(*keys)
    assert refused.value.code == "bad_key"


def test_the_fingerprint_changes_with_each_key_and_only_then() -> None:
    sets = [KeySet(), KeySet(ONE), KeySet(TWO), KeySet(None, ONE), KeySet(ONE, ONE), KeySet(ONE, TWO)]
    assert len({keys.fingerprint for keys in sets}) == len(sets)
    assert KeySet(ONE, TWO, allow_shared_key=True).fingerprint == KeySet(ONE, TWO).fingerprint


def test_nothing_printed_holds_a_key() -> None:
    for printed in (repr(KEY), str(KEY), repr(KEY.key_set()), f"{KEY.key_set()}"):
        for secret in (KEY.seed, KEY.stream_key, KEY.verify_key):
            assert secret.hex() not in printed
            assert repr(secret) not in printed


def test_no_refusal_shows_a_key() -> None:
    almost = KEY.to_file()[:-2]
    with pytest.raises(ConfigError) as refused:
        parse_ota_key(almost)
    assert almost[:16].decode() not in str(refused.value)


SHARED, LEAVE, OTHER = KeySet(None, ONE), KeySet(None, ONE, allow_shared_key=True), KeySet(None, TWO)


@pytest.mark.parametrize(
    ("apps", "pairs"),
    [
        ([("a", SHARED), ("b", OTHER)], []),
        ([("a", SHARED), ("b", SHARED)], [("a", "b")]),
        ([("a", LEAVE), ("b", LEAVE)], []),
        ([("a", LEAVE), ("b", SHARED)], [("a", "b")]),
        ([("a", SHARED), ("a", SHARED)], []),
        ([("a", LEAVE), ("a", SHARED), ("b", LEAVE)], [("a", "b")]),
        ([("a", SHARED), ("a", LEAVE), ("b", LEAVE)], [("a", "b")]),
        ([("a", SHARED), ("b", OTHER), ("c", SHARED)], [("a", "c")]),
        ([("a", LEAVE), ("b", LEAVE), ("c", SHARED)], [("b", "c")]),
        ([("a", KeySet(ONE)), ("b", KeySet(ONE))], [("a", "b")]),  # encryption is all that vouches
        ([("a", KeySet(ONE)), ("b", KeySet(ONE, TWO))], []),  # neither takes what is for the other
        ([("a", KeySet(ONE)), ("b", KeySet(TWO, ONE))], []),
        ([("a", KeySet(ONE, ONE)), ("b", KeySet(ONE, TWO))], []),
        ([], []),
    ],
)
def test_a_shared_key_that_vouches_needs_leave(
    apps: list[tuple[str, KeySet]], pairs: list[tuple[str, str]]
) -> None:
    assert find_shared_keys(apps) == pairs


def test_shared_keys_are_found_in_a_mapping() -> None:
    assert find_shared_keys({"a": SHARED, "b": SHARED}) == [("a", "b")]
