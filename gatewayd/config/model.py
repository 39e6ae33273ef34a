"""The configuration as typed, frozen values; each field's description also goes into the JSON Schema."""

import ipaddress
import os
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    InstanceOf,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gatewayd.config.corrections import corrected_host, corrected_version, is_in_network, pty_instead
from gatewayd.config.duration import PATTERN as DURATION_PATTERN
from gatewayd.config.duration import duration_text, read_duration
from gatewayd.config.mistakes import Mistake
from gatewayd.errors import ConfigError, GatewaydError
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Deliver, Payload, SlotMatch
from gatewayd.ota.topic import DEFAULT_TEMPLATE, Channel, TopicTemplate, validate_app_id
from gatewayd.ota.version import Version
from gatewayd.protocol.registry import DEFAULT_PROTOCOL, PROTOCOLS
from gatewayd.tls import Trust, parse_pin

T = TypeVar("T")

# Connecting more often than this saves nothing. Connecting less often leaves little of the week for which the
# broker keeps messages, if one connection fails.
SHORTEST_EVERY, LONGEST_EVERY = timedelta(seconds=5), timedelta(days=3)
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(hours=1)
# What fits into an MQTT topic, a file name, JSON and a shell without quotes.
NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
# A file that systemd hands over: LoadCredential=NAME:… in the unit.
CREDENTIAL = "credential:"
UNIT_CREDENTIALS = "/run/credentials/gatewayd.service"
# sockaddr_un.sun_path is 108 bytes on Linux, the last one NUL.
SOCKET_PATH_LIMIT_BYTES = 107
ADAPTER_PATTERN = r"^hci[0-9]{1,3}$"
ADDRESS_PATTERN = r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
UUID_PATTERN = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
HEX_PATTERN = r"^([0-9A-Fa-f]{2})*$"
MAGIC_PATTERN = r"^([0-9A-Fa-f]{2}){1,16}$"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def _registered(name: str) -> str:
    if name not in PROTOCOLS:
        raise refuse(f"is not supported by this version: expected {' or '.join(PROTOCOLS)}")
    return name


def refuse(message: str, suggestion: str = "") -> PydanticCustomError:
    """What a check raises; the message follows the key path."""
    return PydanticCustomError("value_refused", "{message}", {"message": message, "suggestion": suggestion})


def _parsed(parse: Callable[[str], T], type_: type[T]) -> Callable[[Any], Any]:
    """Return a validator that reads text with `parse`; a value that is a `type_` already passes."""

    def read(value: Any) -> Any:
        if isinstance(value, type_):
            return value
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "expected text")
        try:
            return parse(value)
        except GatewaydError as error:
            raise refuse(error.message, error.hint) from None

    return read


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
        raise refuse(error.message, corrected_version(text) or error.hint) from None


def _pin(text: str) -> str:
    try:
        return parse_pin(text)
    except GatewaydError as error:
        raise refuse(error.message, error.hint) from None


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not _HOST.fullmatch(text):
            got = "a URL with a login in it" if "@" in text else repr(text[:80])
            message = f"expected only a host name or an address, got {got}"
            raise refuse(message, corrected_host(text)) from None
    return text


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise refuse(f"expected no control characters, got {text[:80]!r}")
    return text


def _status_topic(text: str) -> str:
    rest = text.replace("{gateway_id}", "", 1)
    if not rest.isprintable() or re.search(r"[{}+#]", rest) or text.startswith("$"):
        raise refuse(
            f"expected a topic such as gatewayd/{{gateway_id}}, without + # or more braces, got {text[:80]!r}"
        )
    return text


def _local_path(path: Path, info: ValidationInfo) -> Path:
    if str(path).startswith(CREDENTIAL):
        return _credential(str(path).removeprefix(CREDENTIAL))
    if str(path).startswith("~"):
        raise refuse(
            f"~ is not replaced here, got {str(path)[:80]!r}",
            "Write the full path; below /home and /root the service sees nothing, so use /etc/gatewayd",
        )
    if _CONTROL.search(str(path)) or path == Path():
        raise refuse("expected the path of a file")
    folder = (info.context or {}).get("folder")
    return folder / path if folder else path


def _credential(name: str) -> Path:
    """Return the path of a systemd credential: as the environment says, else in the unit's usual folder."""
    if not re.fullmatch(NAME_PATTERN, name) or name.startswith("."):
        raise refuse(f"expected {CREDENTIAL}NAME, with the name from LoadCredential= in the unit")
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", UNIT_CREDENTIALS)) / name


def _socket_path(path: Path) -> Path:
    size_bytes = len(str(path).encode())
    if size_bytes > SOCKET_PATH_LIMIT_BYTES:
        raise refuse(f"expected at most {SOCKET_PATH_LIMIT_BYTES} bytes, got {size_bytes}")
    return path


def _port_path(text: str) -> str:
    if is_in_network(text):
        raise refuse("ports in the network are not supported", pty_instead(text))
    if text.startswith("~"):
        raise refuse(f"~ is not replaced here, got {text[:80]!r}", "Write the full path")
    if not text.startswith("/") or _CONTROL.search(text):
        raise refuse(f"expected an absolute path such as /dev/serial/by-id/usb-FTDI-…, got {text[:80]!r}")
    return text


def _ble_address(text: str) -> str:
    if not re.fullmatch(ADDRESS_PATTERN, text):
        raise refuse(
            f"expected an address such as C0:FF:EE:00:00:01, got {text[:80]!r}",
            "Write {name: …} to find it by its name",
        )
    return text.upper()


def _duration(shortest: timedelta, longest: timedelta) -> Callable[[Any], timedelta]:
    def read(value: Any) -> timedelta:
        try:
            return read_duration(value, shortest, longest)
        except GatewaydError as error:
            raise refuse(error.message, error.hint) from None

    return read


def _shorter_than_every(wait: timedelta, info: ValidationInfo) -> timedelta:
    every = info.data.get("every")
    if every is not None and wait >= every:
        raise refuse(f"expected less than every: {duration_text(every)}, got {duration_text(wait)}")
    return wait


# Enumerations are text in a file: strict mode would demand members.
_LAX = Field(strict=False)

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
AppId = Annotated[str, AfterValidator(_app_id), Field(json_schema_extra={"minLength": 1, "maxLength": 64})]
LocalPath = Annotated[Path, _LAX, AfterValidator(_local_path)]
Pin = Annotated[str, AfterValidator(_pin), Field(json_schema_extra={"pattern": "^sha256[:/]"})]
PortPath = Annotated[str, AfterValidator(_port_path), Field(json_schema_extra={"pattern": "^/"})]
Baud = Annotated[int, Field(ge=300, le=12_000_000)]
AdapterName = Annotated[str, Field(pattern=ADAPTER_PATTERN)]
BleAddress = Annotated[
    str, AfterValidator(_ble_address), Field(json_schema_extra={"pattern": ADDRESS_PATTERN})
]
Exchange = Annotated[str, Field(min_length=1, max_length=256)]
VersionText = Annotated[
    Version,
    PlainValidator(_parsed(_version, Version)),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$"}),
]
OtaTopicTemplate = Annotated[
    TopicTemplate,
    PlainValidator(_parsed(TopicTemplate, TopicTemplate)),
    PlainSerializer(lambda topic: topic.template),
    WithJsonSchema({"type": "string", "default": DEFAULT_TEMPLATE}),
]


class Section(BaseModel):
    """The base of all sections: frozen, no coercion, no unknown keys, no input in errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class Gateway(Section):
    """This gateway."""

    id: Name = Field(
        default_factory=socket.gethostname,
        validate_default=True,
        description="This gateway's name in topics. Default: the host name",
    )
    state_dir: LocalPath = Field(Path("/var/lib/gatewayd"), description="Where jobs and firmware are kept")
    control_socket: Annotated[LocalPath, AfterValidator(_socket_path)] = Field(
        Path("/run/gatewayd/control.sock"), description="Where gatewayctl reaches the daemon"
    )


class TlsSection(Section):
    """TLS to the broker; {} for the system's certificate authorities and nothing else."""

    ca_file: LocalPath | None = Field(
        None, description="Certificate authorities in PEM. Default: the system's, unless pins are given"
    )
    cert_file: LocalPath | None = Field(None, description="This gateway's certificate, in PEM")
    key_file: LocalPath | None = Field(None, description="Its key, if that is not in cert_file")
    key_password_file: LocalPath | None = Field(None, description="File that holds only the key's password")
    pins: tuple[Pin, ...] = Field(
        (), strict=False, max_length=16, description="The broker's key must be one of these: sha256:…"
    )


_AS_TEXT = (PlainSerializer(duration_text), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}))
Every = Annotated[timedelta, PlainValidator(_duration(SHORTEST_EVERY, LONGEST_EVERY)), *_AS_TEXT]
Wait = Annotated[
    timedelta,
    PlainValidator(_duration(SHORTEST_WAIT, LONGEST_WAIT)),
    AfterValidator(_shorter_than_every),
    *_AS_TEXT,
]


class Periodic(Section):
    """For metered connections: connect, fetch what is waiting, disconnect."""

    every: Every = Field(description="Time between connections, plus or minus a tenth: 5s to 3d")
    wait: Wait = Field(description="How long to stay connected while nothing arrives: 1s to 1h")


class _AlwaysOrPeriodic:
    """Reads `always` or a mapping: a union would report a mistake once for each of its members."""

    def __get_pydantic_core_schema__(self, _type: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, inner: Callable[[Any], Any]) -> Any:
            if value == "always":
                return value
            if isinstance(value, dict | Periodic):
                return inner(value)
            raise refuse("expected always, or {every: 6h, wait: 2m} for a metered connection")

        def write(value: Any, inner: Callable[[Any], Any]) -> Any:
            return value if value == "always" else inner(value)

        periodic = handler.generate_schema(Periodic)
        return core_schema.no_info_wrap_validator_function(
            read,
            periodic,
            serialization=core_schema.wrap_serializer_function_ser_schema(write, schema=periodic),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"const": "always", "type": "string"}, handler(schema)]}


class MqttSection(Section):
    """The broker, as written."""

    host: Annotated[str, AfterValidator(_host)] = Field(description="Host name or address of the broker")
    port: int | None = Field(
        None, ge=1, le=65535, description="Port of the broker. Default: 1883, or 8883 with tls"
    )
    client_id: Text = Field(
        default_factory=lambda: f"gatewayd-{socket.gethostname()}",
        description="Must be unique at the broker. Default: gatewayd-<gateway id>",
    )
    username: Text | None = Field(None, description="User name at the broker")
    password_file: LocalPath | None = Field(None, description="File that holds only the password")
    tls: TlsSection | None = Field(None, description="TLS to the broker. Default: none, unencrypted")
    connect: Annotated[Literal["always"] | Periodic, _AlwaysOrPeriodic()] = Field(
        "always", description="always, or {every: 6h, wait: 2m} for a metered connection"
    )
    ota_topic: OtaTopicTemplate = Field(
        default_factory=TopicTemplate,
        description="Topic of an application's firmware; /s or /u is appended for the channels",
    )
    status_topic: Annotated[Text, AfterValidator(_status_topic)] = Field(
        "gatewayd/{gateway_id}", description="Root of the topics this gateway publishes its status on"
    )
    max_message_mib: int = Field(16, ge=1, le=255, description="Largest message accepted, in MiB")


class Mqtt(MqttSection):
    """The broker, with its secrets loaded. `tls_digest` changes when the content of a file of `tls` does."""

    port: int
    password: SecretStr | None = None
    key_password: SecretStr | None = None
    tls_digest: str = Field("", exclude=True)

    @property
    def trust(self) -> Trust | None:
        """The trust settings for TLS; None: no TLS."""
        if self.tls is None:
            return None
        password = self.key_password.get_secret_value() if self.key_password else None
        tls = self.tls
        return Trust(tls.ca_file, tls.cert_file, tls.key_file, password, tls.pins)


class Adapter(Section):
    """A Bluetooth adapter."""

    max_connections: int = Field(
        3, ge=1, le=20, description="Simultaneous connections; a Raspberry Pi supports about 7"
    )


class KeyFiles(Section):
    """The files of one key set, as `gatewayctl keygen` or Sming's otatool writes them."""

    decrypt_key_file: LocalPath | None = Field(None, description="decrypt.key.bin: 32 bytes, secret")
    verify_key_file: LocalPath | None = Field(None, description="verify.key.bin: 32 bytes, public")
    ota_key_file: LocalPath | None = Field(
        None, description="ota.key: both of the above and the signing key; best kept off gateways"
    )
    allow_shared_key: bool = Field(
        default=False, description="Allow one key for the firmware of several applications"
    )


class Wake(Section):
    """The exchange before the first frame, for firmware that must be told to listen."""

    send: Exchange = Field(
        description='Text to send; in double quotes \\r\\n are control characters: "AT+OTA\\r\\n"'
    )
    expect: Exchange | None = Field(None, description="Text to wait for. Default: do not wait")


class BleLimits(Section):
    """How long each step may take over Bluetooth."""

    scan_s: float = Field(30.0, ge=1, le=600, strict=False, description="Seconds to find the device")
    connect_s: float = Field(20.0, ge=1, le=120, strict=False, description="Seconds to connect")
    discovery_s: float = Field(
        30.0, ge=1, le=120, strict=False, description="Seconds to discover its services"
    )
    erase_s: float = Field(
        300.0,
        ge=1,
        le=3600,
        strict=False,
        description="Seconds to erase or check flash, while the device says it is busy",
    )
    chunk_ms: int = Field(
        200, ge=50, le=10_000, description="Minimum wait for an acknowledgement, in milliseconds"
    )


class ServiceData(Section):
    """Service data in an advertisement."""

    uuid: Annotated[str, Field(pattern=UUID_PATTERN)] = Field(description="UUID of the service, in full")
    starts_with: Annotated[str, Field(pattern=HEX_PATTERN)] = Field(
        "", description="How the data begins, in hex. Default: anything"
    )


class BleTarget(Section):
    """Which device to look for; everything given must match."""

    address: BleAddress | None = Field(None, description="Its address")
    name: Text | None = Field(None, description="The name in its advertisement")
    service_data: ServiceData | None = Field(None, description="Service data in its advertisement")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.address is None and self.name is None and self.service_data is None:
            raise refuse("is empty", "Give an address, a name or service_data")
        return self

    def __str__(self) -> str:
        data = self.service_data and f"service data {self.service_data.uuid}={self.service_data.starts_with}"
        return " ".join(part for part in (self.address, self.name, data) if part)


def _target(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


class BleSettings(Section):
    """A Bluetooth Low Energy device."""

    kind: ClassVar[Literal["ble"]] = "ble"
    ble: Annotated[BleTarget, BeforeValidator(_target, json_schema_input_type=BleAddress | BleTarget)] = (
        Field(description="Its address, or {name: …} or {service_data: …}")
    )
    adapter: AdapterName | None = Field(None, description="The adapter (hci0). Default: any")
    pair: bool = Field(default=True, description="Encrypt the connection, and bond with the device")
    wake: Literal["advertisement"] | None = Field(
        None, description="advertisement: wait for a sleeping device for as long as it takes"
    )
    limits: BleLimits = Field(default_factory=BleLimits, description="Time limits")

    @property
    def address(self) -> str:
        """The address in messages to people."""
        return str(self.ble)


class UartSettings(Section):
    """A serial port."""

    kind: ClassVar[Literal["uart"]] = "uart"

    uart: PortPath = Field(description="The port; /dev/serial/by-id/… survives re-plugging")
    baud: Baud = Field(115_200, description="Speed at which the device listens")
    transfer_baud: Baud | None = Field(None, description="Speed to switch to for a transfer")
    dtr: bool = Field(default=False, description="Level of DTR while the port is open")
    rts: bool = Field(default=False, description="Level of RTS while the port is open")
    wake: Wake | None = Field(None, description="Exchange before the first frame")

    @property
    def address(self) -> str:
        """The address in messages to people."""
        return self.uart


def link_kind(written: Any) -> str:
    """Return the kind of link a mapping describes."""
    if isinstance(written, Section):
        return getattr(written, "kind", "uart")
    return "ble" if isinstance(written, dict) and "ble" in written and "uart" not in written else "uart"


LINKS: dict[str, type[Section]] = {"uart": UartSettings, "ble": BleSettings}
Link = Annotated[
    Annotated[UartSettings, Tag("uart")] | Annotated[BleSettings, Tag("ble")],
    Discriminator(link_kind),
]


class _Device(Section):
    """A device behind this gateway."""

    name: Name = Field(description="Name of the device in topics, logs and commands")
    app_id: AppId = Field(
        description="Application: part of the topic, and compared with what the device reports"
    )
    hardware_id: Text | None = Field(None, description="If given, compared with what the device reports")
    version: VersionText = Field(description="Assumed until the device reports its version")
    channel: Literal["none", "stable", "unstable", "both"] = Field(
        "none", description="none (the topic without suffix), stable, unstable, or both (stable and unstable)"
    )
    patch_encoding: Annotated[PatchEncoding, _LAX] = Field(
        PatchEncoding.VARINT, description="Encoding of the patch version in front of the firmware"
    )
    payload: Annotated[Payload, _LAX] = Field(
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
    deliver: Annotated[Deliver, _LAX] = Field(
        Deliver.ROM, description="rom, or container for devices that verify the signature themselves"
    )
    slot_match: Annotated[SlotMatch, _LAX] = Field(
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
    link: Link = Field(description="How the device is reached")

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


class Settings(Section):
    """The daemon's whole configuration, as `load` returns it. `files`: all that were read, in order."""

    file: Path
    files: tuple[Path, ...] = Field((), exclude=True, repr=False)
    gateway: Gateway
    mqtt: Mqtt
    devices: tuple[Device, ...]
    adapters: dict[str, Adapter] = Field(default_factory=dict)
    key_files: dict[str, KeyFiles] = Field(default_factory=dict, exclude=True, repr=False)
    key_sets: dict[str, InstanceOf[KeySet]] = Field(exclude=True, repr=False)
    unusable_keys: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    warnings: tuple[Mistake, ...] = Field((), exclude=True, repr=False)

    def keys_of(self, device: Device) -> KeySet | None:
        """Return the key set of `device`, if it has one. Raises ConfigError `keys_unusable`."""
        if device.keys in self.unusable_keys:
            raise ConfigError(
                self.unusable_keys[device.keys],
                code="keys_unusable",
                hint="correct it, then `gatewayctl reload`",
            )
        return self.key_sets[device.keys] if device.keys is not None else None

    def missing_keys(self, device: Device) -> str:
        """Say why the keys that `device` needs cannot be used; "" if they can, or it needs none."""
        if device.payload is Payload.STANDARD or device.keys is None:
            return ""
        return self.unusable_keys.get(device.keys, "")
