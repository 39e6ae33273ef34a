"""LAMP as the rest of gatewayd sees it: this is what a protocol's folder has to hold."""

import zlib

from gatewayd.errors import FirmwareError
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.kind import ProtocolKind, SessionContext
from lab.lamp.session import LampSession

MAGIC = b"LAMP"


def make_session(context: SessionContext) -> LampSession:
    return LampSession(context.baud)


def crc_name(content: bytes | memoryview) -> ImageId:
    return ImageId("crc32", zlib.crc32(content).to_bytes(4, "big"))


def name_image(content: bytes | memoryview, _sha256: bytes, version: str) -> ImageId:
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise FirmwareError(f"{version} is no image for a lamp", code="bad_firmware")
    return crc_name(content)


LAMP = ProtocolKind(name="lamp", title="LAMP", make_session=make_session, name_image=name_image)
