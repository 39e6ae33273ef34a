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
    "AdvertisementData",
    "BLEDevice",
    "Backend",
    "BleakClient",
    "BleakScanner",
    "translate_error",
]

# What bleak, dbus-fast and the sockets below can raise; in 0.22.3 disconnect() can raise EOFError.
FOREIGN = (BleakError, TimeoutError, EOFError, OSError)
_HAS_BLUEZ_ARGUMENTS = int(version("bleak").partition(".")[0]) >= 3  # noqa: PLR2004 - the version that has them

_NO_BLUEZ_HINT = "install and start it: `apt install bluez`, `systemctl enable --now bluetooth`"
_NO_ADAPTER_HINT = "`bluetoothctl list` says which there are"
_BLOCKED_HINT = "`rfkill unblock bluetooth`, then `bluetoothctl power on`"
_BOND_HINT = "forget the bond on both sides: `bluetoothctl remove ADDRESS`, and on the device; then try again"

# Words to look for in an error, in this order: first those about the adapter, then about the device.
_TABLE: tuple[tuple[tuple[str, ...], Code, str, str], ...] = (
    (
        ("ServiceUnknown", "NameHasNoOwner", "No such file or directory", "Connection refused", "NoReply"),
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
        _NO_ADAPTER_HINT,
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


def _on(adapter: str | None) -> dict[str, Any]:
    if adapter is None:
        return {}
    return {"bluez": {"adapter": adapter}} if _HAS_BLUEZ_ARGUMENTS else {"adapter": adapter}
