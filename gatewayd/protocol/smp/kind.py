"""SMP as the rest of gatewayd sees it."""

from pydantic import BaseModel, ConfigDict, Field

from gatewayd import image_magics
from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.image import ImageId, check_own_version
from gatewayd.protocol.kind import ProtocolKind, SessionContext
from gatewayd.protocol.session import LONGEST_BOOT_S
from gatewayd.protocol.smp.gateway import BUSY_SUM_S, SmpGateway
from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.protocol.smp.permissions import Permissions
from gatewayd.protocol.smp.wire import Framing

_CHARACTERISTIC = "da2e7828-fbce-4e01-ae9e-261174997c48"
GATT = GattProfile(
    offers="SMP",
    service="8d53dc1d-1db7-4cd3-868b-8a527460aa84",
    to_device=_CHARACTERISTIC,
    from_device=_CHARACTERISTIC,
    takes_requests=False,
)
_MOST_IMAGES = 15


class SmpSettings(BaseModel):
    """The settings under a device's `smp` key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    framing: Framing = Field(
        Framing.CONSOLE,
        strict=False,
        description="On a UART: console (lines of text, between log lines) or raw",
    )
    boot_s: int = Field(
        60,
        ge=1,
        le=LONGEST_BOOT_S,
        description="Silence after a restart: while the bootloader swaps images, or waits for an update",
    )
    image: int = Field(0, ge=0, le=_MOST_IMAGES, description="Which image, of a device with several")
    recovery: bool = Field(
        default=False,
        description="If the application is gone, restore it through MCUboot's serial recovery",
    )


def make_session(context: SessionContext) -> SmpGateway:
    """Return a session for one opening of a link."""
    settings = context.settings if isinstance(context.settings, SmpSettings) else SmpSettings()
    return SmpGateway(
        baud=context.baud,
        framing=settings.framing,
        datagram=context.is_datagram,
        boot_s=settings.boot_s,
        image=settings.image,
        busy_s=BUSY_SUM_S if context.busy_s is None else context.busy_s,
        may=Permissions(
            leave_recovery=not context.only_identifies,
            use_recovery=settings.recovery,
            start_without_trial=context.accepts_no_trial,
        ),
    )


def name_image(content: bytes | memoryview, _sha256: bytes, version: str) -> ImageId:
    """Return the id that the device reports once it runs the image. Raises FirmwareError."""
    image = read_image(content)
    check_own_version(image.version, version)
    return image.running_id


def read_version(content: bytes | memoryview) -> str:
    """Return the version in the MCUboot header. Raises FirmwareError."""
    return read_image(content).version


SMP = ProtocolKind(
    name="smp",
    title="SMP (MCUmgr)",
    make_session=make_session,
    gatt=GATT,
    name_image=name_image,
    read_version=read_version,
    image_magic=image_magics.MCUBOOT,
    caution=(
        "an SMP device reports neither its application nor a serial number: a board swapped for another of"
        " its kind is not noticed"
    ),
    advice="Label the boards, and give hardware_id so that at least another kind of board is refused",
    reports_device_id=False,
    settings=SmpSettings,
    scan_settings=({}, {"framing": Framing.RAW.value}),
)
