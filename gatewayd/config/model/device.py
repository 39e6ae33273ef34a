"""An entry of `devices`."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    create_model,
    model_validator,
)

from gatewayd.config.corrections import corrected_line, corrected_version
from gatewayd.config.model.link import BleSettings, LinkSettings
from gatewayd.config.model.values import LAX, Name, Section, Text, parsed, refuse
from gatewayd.errors import GatewaydError
from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Deliver, Payload, SlotMatch
from gatewayd.ota.topic import Channel, validate_app_id
from gatewayd.ota.version import Line, Version
from gatewayd.protocol.registry import DEFAULT_PROTOCOL, PROTOCOLS

MAGIC_PATTERN = r"^([0-9A-Fa-f]{2}){1,16}$"


def _registered(name: str) -> str:
    if name not in PROTOCOLS:
        raise refuse(f"is not supported by this version: expected {' or '.join(PROTOCOLS)}")
    return name


def _app_id(text: str) -> str:
    try:
        validate_app_id(text)
    except GatewaydError as error:
        raise refuse(error.message, error.hint) from None
    return text


def _version(text: str) -> Version:
    try:
        return Version.parse(text)
    except GatewaydError as error:
        raise refuse(error.message, corrected_version(text)) from None


def _line(text: str) -> Line:
    try:
        return Line.parse(text)
    except GatewaydError as error:
        raise refuse(error.message, corrected_line(text)) from None


AppId = Annotated[str, AfterValidator(_app_id), Field(json_schema_extra={"minLength": 1, "maxLength": 64})]
VersionText = Annotated[
    Version,
    PlainValidator(parsed(_version, Version)),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$"}),
]


LineText = Annotated[
    Line,
    PlainValidator(parsed(_line, Line)),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$"}),
]


class _Device(Section):
    """A device behind this gateway."""

    name: Name = Field(description="Name of the device in topics, logs and commands")
    app_id: AppId = Field(
        description="Application: part of the topic, and compared with what the device reports"
    )
    hardware_id: Text | None = Field(None, description="If given, compared with what the device reports")
    device_id: Text | None = Field(
        None, description="The board's own id; if given, compared with what the device reports"
    )
    version: VersionText = Field(description="Assumed until the device reports its version")
    line: LineText | None = Field(
        None,
        description='The major.minor line to follow, such as "4.4". Default: that of what the device runs',
    )
    channel: Literal["none", "stable", "unstable", "both"] = Field(
        "none", description="none (the topic without suffix), stable, unstable, or both (stable and unstable)"
    )
    patch_encoding: Annotated[PatchEncoding, LAX] = Field(
        PatchEncoding.VARINT, description="Encoding of the patch version in front of the firmware"
    )
    payload: Annotated[Payload, LAX] = Field(
        Payload.STANDARD, description="standard (the bare image) or advanced (Sming's OTA container)"
    )
    image_magic: Annotated[str, Field(pattern=MAGIC_PATTERN)] | None = Field(
        None, description="Required first bytes of an image with payload: standard, in hex"
    )
    image_check: bool = Field(
        default=True,
        description="false: with payload: standard, accept text, tiny images and any first bytes",
    )
    keys: Name | None = Field(None, description="Name of the key set that decrypts and verifies containers")
    deliver: Annotated[Deliver, LAX] = Field(
        Deliver.ROM, description="rom, or container for devices that verify the signature themselves"
    )
    slot_match: Annotated[SlotMatch, LAX] = Field(
        SlotMatch.EXACT, description="How a ROM's address is compared with the free slot's; low20: ESP8266"
    )
    allow_unsigned: bool = Field(
        default=False, description="Accept unsigned containers although the key set can verify signatures"
    )
    allow_downgrade: bool = Field(default=False, description="Accept older firmware")
    install: Literal["auto", "manual"] = Field("auto", description="manual waits for gatewayctl approve")
    probe: Literal["start", "job"] = Field(
        "start", description="When to identify the device: start (at start-up too) or job (only before a job)"
    )
    attempts: int = Field(5, ge=1, le=100, description="Attempts before a job fails")
    allow_no_trial: bool = Field(
        default=False, description="Accept a device whose bootloader cannot revert when new firmware fails"
    )
    trial_s: int = Field(
        600, ge=1, le=86_400, description="Seconds within which a new image must be confirmed"
    )
    protocol: Annotated[str, AfterValidator(_registered)] = Field(
        DEFAULT_PROTOCOL, description="The transfer protocol", json_schema_extra={"enum": list(PROTOCOLS)}
    )
    link: LinkSettings = Field(description="How the device is reached")

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels whose releases this device takes."""
        if self.channel == "both":
            return (Channel.STABLE, Channel.UNSTABLE)
        return (Channel(self.channel),)

    @property
    def protocol_settings(self) -> BaseModel | None:
        """The settings under the protocol's name, with defaults; None if the protocol has none."""
        model = PROTOCOLS[self.protocol].settings
        written: BaseModel | None = getattr(self, self.protocol, None)
        return model() if model is not None and written is None else written

    @model_validator(mode="after")
    def _supports_its_link(self) -> Self:
        kind = PROTOCOLS[self.protocol]
        if isinstance(self.link, BleSettings) and kind.gatt is None:
            raise refuse(f"has a Bluetooth link, which {kind.title} does not support")
        return self


if TYPE_CHECKING:

    class Device(_Device):
        """A device behind this gateway."""

else:  # with a key for each protocol that has settings
    Device = create_model(
        "Device",
        __base__=_Device,
        __module__=__name__,
        __doc__=_Device.__doc__,
        **{
            kind.name: (kind.settings | None, Field(None, description=f"Settings of {kind.title}"))
            for kind in PROTOCOLS.values()
            if kind.settings is not None
        },
    )
