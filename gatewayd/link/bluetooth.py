"""Adapter to bleak, in all its versions, and the one table that translates its errors to ours.

bleak 0.22 is Debian 13's, 3.x the newest. The backend is BlueZ over D-Bus unless a test brings its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from bleak import BleakClient, BleakScanner
from bleak.backends.client import BaseBleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.exc import BleakError

from gatewayd.codes import Code
from gatewayd.errors import LinkError
from gatewayd.link.bluez import BluezConnections, Connections

__all__ = [
    "FOREIGN",
    "NO_ADAPTER_HINT",
    "AdvertisementData",
    "BLEDevice",
    "Backend",
    "BleakClient",
    "BleakScanner",
    "lasting_address",
    "translate_error",
]

# What bleak, dbus-fast and the sockets below can raise; in 0.22.3 disconnect() can raise EOFError, and
# AssertionError if connect() failed early.
FOREIGN = (BleakError, TimeoutError, EOFError, OSError, AssertionError)
_HAS_BLUEZ_ARGUMENTS = int(version("bleak").partition(".")[0]) >= 3  # noqa: PLR2004 - the version that has them
_STATIC = 0b11

_NO_BLUEZ_HINT = "install and start it: `apt install bluez`, `systemctl enable --now bluetooth`"
NO_ADAPTER_HINT = "`bluetoothctl list` lists the adapters"
_BLOCKED_HINT = "`rfkill unblock bluetooth`, then `bluetoothctl power on`"
_BUSY_HINT = "another program scans or connects: end it (`bluetoothctl scan off`); it is tried again"
_FILES_HINT = "restart gatewayd; if it comes back, raise LimitNOFILE= of its unit, or the limits of D-Bus"
_GONE_HINT = "BlueZ forgets what it has not heard for 30 s; the device is looked for again"
_RESOURCES_HINT = (
    "restart the device: its Bluetooth stack has no memory left for another connection or subscription"
)
_HELD_HINT = "end the program that has subscribed to it, or `bluetoothctl disconnect ADDRESS`"
_BOND_HINT = "forget the bond on both sides: `bluetoothctl remove ADDRESS`, and on the device; then try again"

# Words to look for in an error, in this order: first those about the adapter, then about the device.
_TABLE: tuple[tuple[tuple[str, ...], Code, str, str], ...] = (
    (
        ("Too many open files", "LimitsExceeded"),
        Code.TOO_MANY_FILES,
        "there is no room for another connection to D-Bus",
        _FILES_HINT,
    ),
    (
        (
            "ServiceUnknown",
            "NameHasNoOwner",
            "No such file or directory",
            "Connection refused",
            "NoReply",
            "EOFError",
        ),
        Code.BLUETOOTH_MISSING,
        "BlueZ does not answer",
        _NO_BLUEZ_HINT,
    ),
    (
        ("AccessDenied",),
        Code.LINK_DENIED,
        "permission to use Bluetooth is missing",
        "add the user to the group bluetooth",
    ),
    (
        ("No powered", "NotReady", "Not Ready", "POWERED_OFF", "Blocked"),
        Code.ADAPTER_BLOCKED,
        "the adapter is switched off or blocked",
        _BLOCKED_HINT,
    ),
    (
        ("No Bluetooth adapters", "NO_BLUETOOTH", "adapter '"),
        Code.ADAPTER_MISSING,
        "is not there",
        NO_ADAPTER_HINT,
    ),
    (
        ("InProgress", "Operation already in progress"),
        Code.ADAPTER_BUSY,
        "the adapter is busy with another program's request",
        _BUSY_HINT,
    ),
    (
        ("UnknownObject", "DoesNotExist", "BleakDeviceNotFoundError", "device '"),
        Code.DEVICE_FORGOTTEN,
        "BlueZ no longer knows the device",
        _GONE_HINT,
    ),
    (
        ("Insufficient Resources", "InsufficientResources"),
        Code.NO_RESOURCES,
        "the device has no resources for this",
        _RESOURCES_HINT,
    ),
    (
        ("Notify acquired", "Write acquired"),
        Code.CHARACTERISTIC_HELD,
        "another program on this machine has the characteristic",
        _HELD_HINT,
    ),
    (
        ("Authentication", "Insufficient", "NotPermitted", "Paired"),
        Code.PAIRING_FAILED,
        "pairing failed",
        _BOND_HINT,
    ),
)


@dataclass(frozen=True, slots=True)
class Backend:
    """Replacements for BlueZ, for tests; by default (None) BlueZ itself."""

    client: type[BaseBleakClient] | None = None
    scanner: type[BaseBleakScanner] | None = None
    connections: Connections = field(default_factory=BluezConnections)

    def make_scanner(
        self, adapter: str | None, on_advertisement: Callable[[BLEDevice, AdvertisementData], None]
    ) -> BleakScanner:
        """Return a scanner on an adapter; None: the first powered one."""
        return BleakScanner(on_advertisement, backend=self.scanner, **_on(adapter))

    def make_client(
        self, device: BLEDevice, on_end: Callable[[BleakClient], None], timeout_s: float
    ) -> BleakClient:
        """Return a client for a device; it uses the adapter that heard the device."""
        return BleakClient(device, on_end, timeout=timeout_s, backend=self.client)


def translate_error(subject: str, error: BaseException, code: str = Code.LINK_ERROR) -> LinkError:
    """Return the LinkError to raise for a `FOREIGN` error; `code` is used if the table has no entry."""
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    for words, known, what, hint in _TABLE:
        if any(word in text or word in type(error).__name__ for word in words):
            return LinkError(f"{subject}: {what} ({text})", code=known, hint=hint)
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    return LinkError(f"{subject}: {text}", code=code)


def lasting_address(device: BLEDevice) -> str | None:
    """Return the address of a device; None: it is a private one, which the device changes now and then.

    Only the two highest bits of a random address tell (Core specification, volume 6, part B, 1.3.2). That of
    a bonded device is its lasting one: BlueZ resolves it.
    """
    facts = device.details.get("props", {}) if isinstance(device.details, dict) else {}
    is_static = int(device.address[:2], 16) >> 6 == _STATIC
    return None if facts.get("AddressType") == "random" and not is_static else device.address.upper()


def _on(adapter: str | None) -> dict[str, Any]:
    if adapter is None:
        return {}
    return {"bluez": {"adapter": adapter}} if _HAS_BLUEZ_ARGUMENTS else {"adapter": adapter}
