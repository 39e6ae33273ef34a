import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import FirmwareError
from gatewayd.ota.version import LIMIT, Line, Version

PARTS = st.integers(0, LIMIT - 1)


@given(PARTS, PARTS, PARTS)
def test_text_round_trips(major: int, minor: int, patch: int) -> None:
    version = Version(major, minor, patch)
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "4.3",
        "4.3.1.0",
        "04.3.1",
        "4.3.-1",
        "4.3.1 ",
        "4.3.1\n",
        "v4.3.1",
        "4.3.x",
        "\u0664.3.1",
        "1.1." + "9" * 20,
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(FirmwareError) as refused:
        Version.parse(text)
    assert refused.value.code == "bad_version"


@pytest.mark.parametrize(
    "parts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (LIMIT, 0, 0), (0, LIMIT, 0), (0, 0, LIMIT)]
)
def test_parts_outside_64_bits_are_refused(parts: tuple[int, int, int]) -> None:
    with pytest.raises(FirmwareError) as refused:
        Version(*parts)
    assert refused.value.code == "bad_version"


def test_versions_are_ordered_as_numbers() -> None:
    assert Version.parse("4.10.0") > Version.parse("4.9.99")


def test_a_line_is_major_and_minor() -> None:
    assert Version(4, 3, 1).line == Line(4, 3) == Line.parse("4.3")
    assert str(Line(4, 10)) == "4.10"
    assert Line(4, 10) > Line(4, 9)


@pytest.mark.parametrize(
    "text", ["", "4", "4.", "4.3.1", "04.3", "4.03", " 4.3", "4.3\n", "4.x", f"4.{2**64}"]
)
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(FirmwareError) as refused:
        Line.parse(text)
    assert refused.value.code == "bad_version"
