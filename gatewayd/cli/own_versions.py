"""The versions that images carry in themselves, compared before anything is packed or published.

Only images of a kind that is recognised by its first bytes count, such as MCUboot's. A damaged one may still
be what a device wants, so it only draws a warning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import peek_roms
from gatewayd.protocol.image import check_own_version
from gatewayd.protocol.registry import kind_of_image


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image, and its name for people."""

    name: str
    content: bytes | memoryview


def images_in(content: bytes, file: str) -> list[NamedImage]:
    """Return the images in a file that can be read without keys: a bare one, or a container's."""
    try:
        roms = peek_roms(content)
    except FirmwareError:
        return [NamedImage(file, content)]
    return [NamedImage(f"the image for {rom.address:#x} in {file}", rom.content) for rom in roms]


def read_own_version(image: NamedImage) -> str | None:
    """Return the version in an image; None if it has none. Warns of a damaged one."""
    kind = kind_of_image(image.content)
    if kind is None:
        return None
    try:
        return kind.read_version(image.content)
    except FirmwareError as error:
        hint = f" ({error.hint})" if error.hint else ""
        click.echo(f"warning: {image.name}: {error.message}{hint}", err=True)
        return None


def check_claim(images: Sequence[NamedImage], claimed: str, *, escape: str = "") -> str | None:
    """Return the version that the images carry, if any do.

    Raises FirmwareError `image_version_differs` if one differs from `claimed`; `escape` ends its hint.
    """
    found = None
    for image in images:
        own = read_own_version(image)
        try:
            found = own or found
            if own is not None:
                check_own_version(own, claimed)
        except FirmwareError as error:
            raise FirmwareError(
                f"{image.name}: {error.message}", code=error.code, hint=f"{error.hint}{escape}"
            ) from None
    return found


def check_agreement(images: Sequence[NamedImage]) -> list[str | None]:
    """Return the version in each image. Raises FirmwareError `image_version_differs` if two differ."""
    versions = [read_own_version(image) for image in images]
    known = [(image.name, own) for image, own in zip(images, versions, strict=True) if own is not None]
    for name, own in known[1:]:
        first_name, first = known[0]
        if own != first:
            raise FirmwareError(
                f"{first_name} says that it is {first}, {name} that it is {own}",
                code="image_version_differs",
                hint="a container is published as one version: build all of its images as that version",
            )
    return versions
