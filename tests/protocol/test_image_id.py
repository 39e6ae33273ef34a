"""The name of an image, and when a device runs it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import DeviceInfo

A, B = ImageId.of_file(bytes(32)), ImageId.of_file(b"\x01" * 32)
OTHER_KIND = ImageId("mcuboot", b"\x01")

names = st.builds(ImageId, st.text("abc0123456789-", min_size=1), st.binary(max_size=64))


@given(names)
def test_a_name_is_read_as_it_was_written(name: ImageId) -> None:
    assert ImageId.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "sha256", ":00", "sha256:0", "sha256:xy"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|hex"):
        ImageId.parse(text)


@pytest.mark.parametrize(
    ("running", "images", "version", "runs"),
    [
        (A, [A], "1.0.0", True),
        (A, [A], "9.9.9", True),  # the name counts, where it can be compared
        (A, [B], "1.0.0", False),
        (A, [OTHER_KIND, A], "9.9.9", True),
        (A, [OTHER_KIND], "1.0.0", True),  # it cannot: the version counts
        (A, [OTHER_KIND], "9.9.9", False),
        (None, [A], "1.0.0", True),
        (None, [A], "9.9.9", False),
    ],
)
def test_when_a_device_runs_an_image(
    running: ImageId | None, images: list[ImageId], version: str, runs: bool
) -> None:
    assert DeviceInfo("pump", version="1.0.0", running=running).runs(images, version) is runs
