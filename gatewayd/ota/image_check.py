"""Whether what follows the patch header can be a bare image at all: conservative guesses.

Nothing vouches for a `standard` payload, so a JSON message on the topic, or an image read with the wrong
patch encoding and therefore shifted by a byte, would be flashed like any other. Three things are refused:
text, what is too small to be firmware, and what lacks the magic that the configuration demands.

The awkward case is the patch encoding. Below 128 a varint and a byte are the same byte, so a wrong setting
works until the 128th patch. From then on both ways to read the message are compared: if only the other one
yields an image that begins like firmware (with the configured magic, or a known one), the message was written
in the other encoding. If neither does, the configured encoding applies.
"""

import struct

from gatewayd import image_magics
from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.patch import PatchEncoding, split_patch

# Smaller than the vector table and start-up code of any microcontroller that has an updater.
SMALLEST_IMAGE_BYTES = 256
# A binary of this length without a NUL byte that is also valid UTF-8 does not occur.
TEXT_SAMPLE_BYTES = 4096
MAX_MAGIC_BYTES = 16
_CONTINUATION = bytes(range(0x80, 0xC0))  # UTF-8's bytes within a character

_ESP_MAX_SEGMENTS = 16
_ESP_MAX_FLASH_MODE = 5
_ESP_FREQUENCIES = (0x0, 0x1, 0x2, 0xF)
_VECTORS = struct.Struct("<4I")  # initial stack pointer; reset, NMI and hard fault handlers
_SRAM = range(0x1000_0000, 0x4000_0000)
_CODE_LIMIT = 0x1000_0000


def check_image(body: BytesLike, magic: bytes) -> None:
    """Raise FirmwareError unless `body` can be a bare image that begins with `magic`.

    Codes: `text_payload`, `image_too_small`, `magic_differs`.
    """
    view = memoryview(body)
    if is_text(view):
        raise FirmwareError(
            f"the firmware is text, {_quoted(view)} for instance, expected a binary image",
            code="text_payload",
            hint="publish the binary (objcopy -O binary makes one); image_check: false accepts text as well",
        )
    if len(view) < SMALLEST_IMAGE_BYTES:
        raise FirmwareError(
            f"the firmware has {len(view)} bytes, expected at least {SMALLEST_IMAGE_BYTES}",
            code="image_too_small",
            hint="is this another message on the firmware's topic? image_check: false accepts it anyway",
        )
    if magic and bytes(view[: len(magic)]) != magic:
        raise FirmwareError(
            f"the image begins with {bytes(view[: len(magic)]).hex()}, expected image_magic {magic.hex()}",
            code="magic_differs",
            hint="is it firmware for another device, or another kind of file?",
        )


def check_encoding(message: BytesLike, encoding: PatchEncoding, magic: bytes) -> None:
    """Raise FirmwareError `other_encoding` if the message makes sense only in the other encoding."""
    body = _body(message, other_encoding(encoding))
    if body is None or not begins_like_firmware(body, magic):
        return
    configured = _body(message, encoding)
    if configured is None or not begins_like_firmware(configured, magic):
        raise wrong_encoding(encoding)


def reads_the_same(message: BytesLike) -> bool:
    """Whether both encodings read the same patch version and body: they do below patch 128."""
    return _body(message, PatchEncoding.BYTE) == _body(message, PatchEncoding.VARINT)


def other_encoding(encoding: PatchEncoding) -> PatchEncoding:
    """Return the other of the two encodings."""
    return PatchEncoding.VARINT if encoding is PatchEncoding.BYTE else PatchEncoding.BYTE


def wrong_encoding(encoding: PatchEncoding) -> FirmwareError:
    """Return the error for a message that makes sense only in the other encoding."""
    other = other_encoding(encoding)
    return FirmwareError(
        f"the patch version was written as {other}, and this device has patch_encoding: {encoding}",
        code="other_encoding",
        hint=f"set patch_encoding: {other}, or publish with --patch-encoding {encoding}; both look alike"
        " below patch 128",
    )


def begins_like_firmware(body: BytesLike, magic: bytes) -> bool:
    """Whether `body` begins with `magic` or, without one, like a known kind of firmware."""
    view = memoryview(body)
    if magic:
        return bytes(view[: len(magic)]) == magic
    return _is_esp(view) or bytes(view[:4]) == image_magics.MCUBOOT or _has_vector_table(view)


def is_text(body: BytesLike) -> bool:
    """Whether the first 4 KiB are UTF-8 without NUL; a character cut at their ends does not count.

    At the beginning it is cut where text stands in a message's place: its first byte is read as the patch.
    """
    sample = bytes(memoryview(body)[:TEXT_SAMPLE_BYTES])
    is_full = len(sample) == TEXT_SAMPLE_BYTES
    sample = sample[:3].lstrip(_CONTINUATION) + sample[3:]
    if b"\0" in sample:
        return False
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        is_cut = is_full and error.reason == "unexpected end of data"
        return is_cut and error.start > 0
    return True


def _is_esp(view: memoryview) -> bool:
    """Whether it has Espressif's header: magic, segments, mode, and size and frequency in a nibble each."""
    if len(view) < 4:  # noqa: PLR2004 - the header's first four bytes
        return False
    magic, segments, mode, flash = view[:4]
    return bytes(view[:2]) == image_magics.RBOOT or (
        magic == image_magics.ESP
        and 1 <= segments <= _ESP_MAX_SEGMENTS
        and mode <= _ESP_MAX_FLASH_MODE
        and flash & 0xF in _ESP_FREQUENCIES
    )


def _has_vector_table(view: memoryview) -> bool:
    """Whether it has a Cortex-M's: a stack pointer into RAM, then handlers in flash (Thumb bit set)."""
    if len(view) < _VECTORS.size:
        return False
    stack, *handlers = _VECTORS.unpack_from(view)
    return (
        stack in _SRAM
        and stack % 4 == 0
        and all(handler & 1 and 1 < handler < _CODE_LIMIT for handler in handlers)
    )


def _body(message: BytesLike, encoding: PatchEncoding) -> memoryview | None:
    try:
        return split_patch(message, encoding)[1]
    except FirmwareError:
        return None


def _quoted(view: memoryview) -> str:
    return repr(bytes(view[:24]).decode(errors="replace"))
