"""The section `link` of a device, a serial port or what to look for over Bluetooth; and the adapters."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from gatewayd.config.corrections import in_network, is_in_network
from gatewayd.config.model.values import Section, Text, has_control_characters, refuse

ADDRESS_PATTERN = r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
ADAPTER_PATTERN = r"^(hci[0-9]{1,3}|[0-9A-F]{2}(:[0-9A-F]{2}){5})$"
UUID_PATTERN = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
HEX_PATTERN = r"^([0-9A-Fa-f]{2})*$"


def _port_path(text: str) -> str:
    if is_in_network(text):
        raise refuse(*in_network(text))
    if text.startswith("~"):
        raise refuse(f"~ is not replaced here, got {text[:80]!r}", "Write the full path")
    if not text.startswith("/") or has_control_characters(text):
        raise refuse(f"expected an absolute path such as /dev/serial/by-id/usb-FTDI-…, got {text[:80]!r}")
    return text


def _ble_address(text: str) -> str:
    if not re.fullmatch(ADDRESS_PATTERN, text):
        digits = re.sub("[-. :]", "", text)
        is_address = re.fullmatch("[0-9A-Fa-f]{12}", digits)
        raise refuse(
            f"expected an address such as C0:FF:EE:00:00:01, got {text[:80]!r}",
            f'Write "{":".join(digits[at : at + 2] for at in range(0, 12, 2)).upper()}"'
            if is_address
            else "Write {name: …} to find it by its name",
        )
    return text.upper()


PortPath = Annotated[str, AfterValidator(_port_path), Field(json_schema_extra={"pattern": "^/"})]
Baud = Annotated[int, Field(ge=300, le=12_000_000)]
AdapterName = Annotated[str, Field(pattern=ADAPTER_PATTERN)]
BleAddress = Annotated[
    str, AfterValidator(_ble_address), Field(json_schema_extra={"pattern": ADDRESS_PATTERN})
]
Exchange = Annotated[str, Field(min_length=1, max_length=256)]


class Adapter(Section):
    """A Bluetooth adapter."""

    max_connections: int = Field(
        3, ge=1, le=20, description="Simultaneous connections; a Raspberry Pi supports about 7"
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
    adapter: AdapterName | None = Field(
        None, description="The adapter: its name (hci0), or its address in capitals. Default: any"
    )
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
LinkSettings = Annotated[
    Annotated[UartSettings, Tag("uart")] | Annotated[BleSettings, Tag("ble")],
    Discriminator(link_kind),
]
