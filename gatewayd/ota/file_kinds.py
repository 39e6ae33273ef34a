"""What kind of file a person is about to send: keys are refused, other kinds only draw advice.

Firmware for a microcontroller is a flat binary. Most other files are sent by mistake; a few devices really
want one, so it is only advised against. A key is different: retained at a broker it is public.
"""

import base64
import re
from dataclasses import dataclass

from gatewayd.codes import Code
from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.container import open_container, peek_roms
from gatewayd.ota.image_check import is_text
from gatewayd.ota.keys import KEY_BYTES, KeySet

_HEAD_BYTES = 4096
_RAW_KEYS = {KEY_BYTES: "verify.key.bin and decrypt.key.bin are", 2 * KEY_BYTES: "the keys of an ota.key are"}
# How erased flash reads.
_ERASED = (0xFF, 0x00)
_SECRETS = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*((PRIVATE|PUBLIC) KEY( BLOCK)?|CERTIFICATE)-----"
    rb"|AGE-SECRET-KEY-1|PuTTY-User-Key-File-"
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What people put around and between hex digits.
_AROUND_HEX = re.compile(rb"^0[xX]|[\s:,-]+")
_DER_SEQUENCE, _DER_LONG_FORM = 0x30, 0x80
_DER_HEAD = 4  # the tag, and the longest length of what fits into the head
BARE_IMAGE = "bare image"
# What the error of opening a container without keys says about it.
_CONTAINERS = {Code.NO_VERIFY_KEY: "signed container", Code.NO_DECRYPT_KEY: "encrypted container"}
_TO_BINARY = "objcopy -O binary makes a flat image of it"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file, recognised by its first bytes, and what to do instead."""

    magic: bytes
    name: str
    next_step: str


_KINDS = (
    _Kind(b"\x7fELF", "an ELF file", _TO_BINARY),
    _Kind(b"UF2\n", "a UF2 file", "convert it to a flat binary (uf2conv.py does)"),
    _Kind(b"DfuSe", "a DfuSe file", "use the binary that it was made from"),
    _Kind(b"PK\x03\x04", "a ZIP archive", "unpack it, and send the binary in it"),
    _Kind(b"\x1f\x8b", "a gzip archive", "unpack it, and send what is in it"),
    _Kind(b"\xfd7zXZ\x00", "an xz archive", "unpack it, and send what is in it"),
    _Kind(b"BZh", "a bzip2 archive", "unpack it, and send what is in it"),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, and send what is in it"),
    _Kind(b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it, and send what is in it"),
    _Kind(b"\x5d\x00\x00\x80\x00", "an LZMA archive", "unpack it, and send what is in it"),
    _Kind(b"\x04\x22\x4d\x18", "an LZ4 archive", "unpack it, and send what is in it"),
    _Kind(b"Rar!\x1a\x07", "a RAR archive", "unpack it, and send the binary in it"),
    _Kind(b"070701", "a cpio archive", "unpack it, and send the binary in it"),
    _Kind(b"version https://git-lfs", "a pointer of Git LFS", "git lfs pull fetches the file itself"),
    _Kind(b"\xff\xfe", "text in UTF-16", "use the binary for the device"),
    _Kind(b"\xcf\xfa\xed\xfe", "a program for macOS", "use the binary for the device"),
    _Kind(b"!<arch>\n", "a library or a Debian package", "use the linked binary"),
    _Kind(b"MZ", "a Windows program", "use the binary for the device"),
    _Kind(b"%PDF", "a PDF document", "use the binary for the device"),
)
_PATTERNS = (
    (re.compile(rb".{257}ustar", re.DOTALL), "it is a tar archive; unpack it, and send the binary in it"),
    (re.compile(rb"([^:\0]*^)?:[0-9A-Fa-f]{10,}\s", re.MULTILINE), f"it is an Intel HEX file; {_TO_BINARY}"),
    (re.compile(rb"\s*S[0-9][0-9A-Fa-f]{6,}\s"), f"it is a Motorola S-record file; {_TO_BINARY}"),
    (
        re.compile(rb"\s*(<!--.*?-->\s*)?(<!doctype html|<html|<\?xml)", re.IGNORECASE | re.DOTALL),
        "it is a web page; was the download refused?",
    ),
)


def refuse_keys(content: BytesLike, name: str) -> None:
    """Raise FirmwareError `key_file` for what looks like a key: it must not be published."""
    view = memoryview(content)
    head, is_all_text = bytes(view[:_HEAD_BYTES]), is_text(view)
    # Firmware may well hold a certificate, behind its own head.
    if _SECRETS.search(bytes(view) if is_all_text else head):
        raise _key(name, "a key or certificate")
    if len(view) in _RAW_KEYS:
        raise _key(name, f"{len(view)} bytes long, as {_RAW_KEYS[len(view)]}")
    if len(view) > len(head):
        return
    if is_all_text and _key_bytes(head) in _RAW_KEYS:
        raise _key(name, "an ota.key or another key as text; an ota.key signs and encrypts firmware")
    if _is_der(head):
        raise _key(name, "a key or certificate in DER")


def _key_bytes(text: bytes) -> int:
    """Return how many bytes a text in hex or Base64 stands for; 0: it is neither."""
    text = text.removeprefix(_BYTE_ORDER_MARK).strip()
    for decode in (bytes.fromhex, lambda plain: base64.b64decode(plain, validate=True)):
        try:
            return len(decode(_AROUND_HEX.sub(b"", text).decode("ascii")))
        except ValueError:
            continue
    return 0


def _is_der(content: bytes) -> bool:
    """Whether it is one ASN.1 sequence and nothing else."""
    if len(content) < _DER_HEAD or content[0] != _DER_SEQUENCE:
        return False
    length = content[1]
    if length < _DER_LONG_FORM:
        return len(content) == 2 + length
    octets = length - _DER_LONG_FORM
    return len(content) == 2 + octets + int.from_bytes(content[2 : 2 + octets])


def recognise(content: BytesLike) -> str:
    """Say what a file is: one of Sming's containers, or a bare image.

    Raises FirmwareError for an empty file and a damaged container.
    """
    if not len(content):
        raise FirmwareError("the file is empty, expected firmware", code="empty_firmware")
    try:
        open_container(content, KeySet(), allow_unsigned=True)
    except FirmwareError as error:
        if error.code == Code.BAD_MAGIC:
            return BARE_IMAGE
        for code, kind in _CONTAINERS.items():
            if error.code == code:
                return kind
        raise
    return "unsigned container"


def refuse_nesting(content: BytesLike, name: str) -> None:
    """Raise FirmwareError `nested_container` for a container in a container; no device unpacks both."""
    try:
        roms = peek_roms(content)
    except FirmwareError:
        return  # not a container, or an encrypted one, whose content is hidden
    for rom in roms:
        if is_container(rom.content):
            raise nested(name, f"the image for {rom.address:#x} in {name}")


def nested(name: str, inner: str) -> FirmwareError:
    """Return the error for a container where a bare image belongs."""
    return FirmwareError(
        f"{inner} is an OTA container already",
        code="nested_container",
        hint=f"pack the bare image; gatewayctl publish takes {name} as it is if it is what you want to send",
    )


def is_container(content: BytesLike) -> bool:
    """Whether this is one of Sming's containers, damaged ones included."""
    try:
        return recognise(content) != BARE_IMAGE
    except FirmwareError:
        return True  # a damaged one


def advice(content: BytesLike) -> str | None:
    """Return what kind of file this is and what to send instead; None if it may be a flat image."""
    view = memoryview(content)
    head = bytes(view[:_HEAD_BYTES]).removeprefix(_BYTE_ORDER_MARK)
    if not head:
        return None
    for kind in _KINDS:
        if head.startswith(kind.magic):
            return f"it is {kind.name}; {kind.next_step}"
    for pattern, said in _PATTERNS:
        if pattern.match(head):
            return said
    if is_text(view):
        return "it is text; firmware is binary"
    if head[0] in _ERASED and bytes(view) == bytes([head[0]]) * len(view):
        return f"it is nothing but {head[0]:#04x}, as erased flash reads; was the wrong range read out?"
    return None


def _key(name: str, what: str) -> FirmwareError:
    return FirmwareError(
        f"{name} is {what}; it must not be published",
        code="key_file",
        hint="name the firmware's file; if the key was published before, replace it (gatewayctl keygen)",
    )
