"""The strict YAML reader: nothing but ConfigErrors comes out of it, whatever goes in."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import ConfigErrors, Mistake, document
from gatewayd.config.document import BROKEN, MISTAKES_LIMIT, SIZE_LIMIT_BYTES, VALUES_LIMIT, parse_document
from gatewayd.config.loader import settle

FILE = Path("config.yaml")
# Cut at the spaces; tabs, line ends and odd ones apart.
WORDS = r"""mqtt: host: port: keys: devices: defaults: link: uart: name: version: wake: send: gateway: tls:
- ? ! & * &a *a << | > % @ ` [ ] { } , : # ' " \ --- ... !!str !!python/object:os.system %YAML yes 4.10 0x10
12:30 null true ~ 1_0 "4.3.1" a pump {} [] /dev/x 115200 "\ud800" "\UFFFFFFFF" "\x00" é"""
PIECES = [*WORDS.split(), "\t", "\r", "\ufeff", "\x85", "\u2028"]
yamlish = st.lists(st.sampled_from([*PIECES, "\n", "\n  ", "\n    ", "\n  - ", " "]), max_size=40).map(
    "".join
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def outcome(content: bytes) -> Any:
    """The value, or `"refused"`."""
    try:
        read = parse_document(FILE, content)
    except ConfigErrors as error:
        assert error.code == "bad_configuration"  # noqa: PT017 - both ways are right
        return "refused"
    return "refused" if read.mistakes else read.root


@given(st.binary() | yamlish.map(lambda text: text.encode(errors="replace")))
def test_any_bytes_load_or_raise_config_errors_with_a_mistake(content: bytes) -> None:
    mistakes: tuple[Mistake, ...] | None = None
    try:
        settle(parse_document(FILE, content))
    except ConfigErrors as error:
        mistakes = error.mistakes
    assert mistakes is None or mistakes
    assert repr(BROKEN) not in str(mistakes)


@given(yamlish)
def test_what_both_parsers_accept_they_read_alike(text: str) -> None:
    content = text.encode(errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_LOADER", yaml.SafeLoader)
        slow = outcome(content)
    fast = outcome(content)
    if "refused" not in (fast, slow):
        assert fast == slow


@given(values)
def test_what_a_yaml_writer_quotes_properly_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value, default_style='"', allow_unicode=False)
    if "!!" in text:  # the writer tags what is not text when told to quote everything
        text = yaml.safe_dump(value)
    result = outcome(text.encode())
    assert result in (value, "refused")


# A blank at an end is refused unless it is escaped, which this writer does with all that is odd but a blank.
quotable = st.text(max_size=20).filter(lambda text: text == text.strip(" "))


@given(st.dictionaries(quotable, quotable, max_size=5))
def test_quoted_texts_are_never_refused(value: dict[str, str]) -> None:
    assert outcome(yaml.dump(value, Dumper=Quoting).encode()) == value


class Quoting(yaml.SafeDumper):
    """Puts every text in double quotes, without the tag that default_style adds."""


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-5", -5),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("4.3.1", "4.3.1"),
        ("192.168.0.1", "192.168.0.1"),
        ("'no'", "no"),
        ('"4.10"', "4.10"),
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ('"AT\\r\\n"', "AT\r\n"),
        ("é", "é"),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    assert outcome(f"\ufeffkey: {text}\n".encode()) == {"key": value}


@pytest.mark.parametrize(
    "text",
    """yes Yes no NO on off y N True FALSE Null 1.5 .5 1. 1e3 -.inf .NaN 1_000 0x1F 0o17 017 0b1 +1 12:30
    1:2:3.5 2026-11-23 00:11:22:33:44:55 C0:FF:EE:00:00:01 99999999999999999999 !x &a *a""".split(),  # noqa: SIM905 - readable
)
def test_what_readers_disagree_on_is_refused(text: str) -> None:
    assert outcome(f"key: {text}\n".encode()) == "refused"


@pytest.mark.attack("a file of more than 1 MiB", "bad_configuration")
def test_size_is_limited() -> None:
    line = b"key: value\n"
    comment = b"#" * (SIZE_LIMIT_BYTES - len(line))
    assert outcome(line + comment) == {"key": "value"}
    assert outcome(line + comment + b"#") == "refused"


@pytest.mark.attack("nested 100,000 deep", "bad_configuration")
@pytest.mark.parametrize(("depth", "accepted"), [(32, True), (33, False), (100_000, False)])
def test_depth_is_limited(depth: int, accepted: bool) -> None:
    assert (outcome(b"[" * depth + b"]" * depth) != "refused") is accepted


def complaints(content: bytes) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigErrors) as caught:
        settle(parse_document(FILE, content))
    assert caught.value.code == "bad_configuration"
    return caught.value.mistakes


@pytest.mark.attack("a quarter of a million mistakes", "bad_configuration")
@pytest.mark.parametrize(
    "content", [b"a:\n" * 200, b"mqtt: {host: a}\ndevices:\n" + b"- {}\n" * 200], ids=["syntax", "settings"]
)
def test_mistakes_are_told_up_to_a_limit(content: bytes) -> None:
    mistakes = complaints(content)
    assert len(mistakes) == MISTAKES_LIMIT + 1
    more = [str(one) for one in mistakes if "there are more than 100 mistakes" in one.message]
    assert more[0].startswith("config.yaml:")
    assert len(more) == 1


@pytest.mark.slow
@pytest.mark.attack("more than 50,000 values", "bad_configuration")
def test_values_are_limited() -> None:
    most = b"".join(b"a%d: b\n" % number for number in range(VALUES_LIMIT))
    assert len(outcome(most)) == VALUES_LIMIT
    [mistake] = complaints(most + b"one: more\n")
    assert (mistake.line, mistake.message) == (VALUES_LIMIT + 1, "there are more than 50000 values")


def test_a_long_key_is_shortened_in_what_is_told() -> None:
    mistake = complaints(b"x" * 900 + b": {a: ~, b: &b c}\n")[-1]
    assert (
        str(mistake) == f"config.yaml:1: {'x' * 80}….b: the anchor &b is not accepted. Use defaults: instead."
    )


def test_places_are_those_of_the_keys() -> None:
    read = parse_document(FILE, b"mqtt:\n  host: a\nlist:\n  - x\n  - k: 1\n")
    assert {path: (place.line, place.column) for path, place in read.places.items()} == {
        ("mqtt",): (1, 1),
        ("mqtt", "host"): (2, 3),
        ("list",): (3, 1),
        ("list", 0): (4, 5),
        ("list", 1): (5, 5),
        ("list", 1, "k"): (5, 5),
    }
    assert {place.file for place in read.places.values()} == {FILE}
    assert read.mistake(("list", 1, "absent"), "message").line == 5
