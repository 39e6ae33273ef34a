"""`gatewayctl simulate`: virtual devices, to try out a configuration and for tests."""

import asyncio
import importlib
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewayd.cli.groups import Group
from gatewayd.cli.options import Fraction
from gatewayd.cli.simulate_smp import open_smp_device
from gatewayd.config.model import ADDRESS_PATTERN
from gatewayd.errors import FirmwareError, HostError
from gatewayd.ota.version import Version
from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.rcp.kind import GATT as RCP_GATT
from gatewayd.protocol.smp.kind import GATT as SMP_GATT
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from gatewayd.simulator.smp.radio import SmpRadio
from gatewayd.simulator.terminal import Terminal
from gatewayd.simulator.uart import UartDevice, VirtualUart, make_clock, open_device

if TYPE_CHECKING:
    from gatewayd.simulator.ble import RadioDevice  # bumble may not be there

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]
# Both top bits of a static random address are set.
_STATIC = 0xC0
_BONDS = "bonds.json"
_SMP_NAME = "smp"


class _Number(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A number, also in hexadecimal (0x...)."""

    def __init__(self, low: float = 0, high: int = 2**32 - 1, *, fractions: bool = False) -> None:
        self.name = "number" if fractions else "integer"
        self._low, self._high, self._fractions = low, high, fractions

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        try:
            number = self._read(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a valid {self.name}, such as 4096 or 0x1000", param, ctx)
        if not self._low <= number <= self._high:
            self.fail(f"{value} is not within {self._low} to {self._high}", param, ctx)
        return number

    def _read(self, text: str) -> float:
        try:
            return int(text, 0)
        except ValueError:
            if not self._fractions:
                raise
            return float(text)


def _check_version(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return str(Version.parse(value))
    except FirmwareError as error:
        raise click.BadParameter(str(error)) from error


def _check_text(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    limit = 32 if param.name == "device_id" else 64  # what INFO carries
    if value is not None and not (1 <= len(value.encode()) <= limit and value.isprintable()):
        raise click.BadParameter(f"{value!r} is not 1 to {limit} printable bytes")
    return value


def _check_address(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(ADDRESS_PATTERN, value) or int(value[:2], 16) < _STATIC:
        raise click.BadParameter(f"{value!r} is not a static random address such as C0:FF:EE:00:00:01")
    return value.upper()


_NUMBER = _Number()
_POSITIVE = _Number(1)
_AMOUNT = _Number(fractions=True)
_PROBABILITY = Fraction(0, 1)


@click.group(cls=Group)
def command() -> None:
    """Run a virtual device."""


def _options(*groups: tuple[_Decorator, ...]) -> _Decorator:
    """Add groups of options, in their order in --help."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return add


# Names are shared with device/build/rcp-device.
_PORT = (
    click.option(
        "--port", required=True, type=click.Path(path_type=Path), help="Path for a symbolic link to the pty."
    ),
)
_IDENTITY = (
    click.option(
        "--state",
        required=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Directory for the device's state; what it holds overrides the options.",
    ),
    click.option("--app-id", callback=_check_text, help="The device's application; needed with RCP."),
    click.option(
        "--version",
        required=True,
        callback=_check_version,
        help="The version at its first start, M.m.p.",
    ),
    click.option("--hardware-id", callback=_check_text, help="Its hardware.  [default: not reported]"),
    click.option("--device-id", callback=_check_text, help="Its serial number.  [default: not reported]"),
    click.option("--slot-address", type=_NUMBER, help="Address of the free slot.  [default: not reported]"),
)
_LINE = (
    click.option(
        "--baud", "base_baud", type=_POSITIVE, default=115200, show_default=True, help="Base speed."
    ),
    click.option("--rate", type=_AMOUNT, default=0, help="Bytes per second; 0: unlimited."),
    click.option("--latency-ms", type=_AMOUNT, default=0, help="Latency in each direction."),
    click.option("--flip-rate", type=_PROBABILITY, default=0, help="Bit flips per byte, in each direction."),
    click.option(
        "--drop-rate", type=_PROBABILITY, default=0, help="Fraction of bytes lost, in each direction."
    ),
    click.option("--seed", type=_NUMBER, help="Makes faults repeatable."),
)
_TEMPER = (
    click.option("--power-cut-after", type=_POSITIVE, help="Cut the power once, after this many bytes."),
    click.option("--slot-size", type=_POSITIVE, default=16 * 1024 * 1024, help="Size of the free slot."),
    click.option("--erase-block", type=_POSITIVE, default=4096, help="Erase block, in bytes."),
    click.option(
        "--write-unit", type=_Number(1, 65535), default=8, help="Write unit of the flash, in bytes."
    ),
    click.option("--max-frame", type=_Number(138, 65535), default=1034, help="Longest frame it accepts."),
    click.option("--window", type=_POSITIVE, default=4096, help="Payload bytes it accepts unacknowledged."),
    click.option("--rx-ring", type=_POSITIVE, default=8192, help="Size of its receive buffer."),
    click.option("--boot-ms", type=_NUMBER, default=200, help="Milliseconds of silence after a restart."),
    click.option("--erase-ms", type=_NUMBER, default=0, help="Milliseconds to erase a block."),
    click.option("--trial-s", type=_Number(0, 65535), default=65535, help="Longest trial of a new image."),
    click.option("--no-trial", is_flag=True, help="Its bootloader cannot revert to the old image."),
    click.option("--break-after-activate", is_flag=True, help="An image on trial never answers."),
    click.option("--quiet", is_flag=True, help="Log nothing."),
)
_RADIO = (
    click.option(
        "--controller",
        required=True,
        metavar="TRANSPORT",
        help="As bumble names them: usb:0, hci-socket:0, serial:/dev/…, or vhci for a virtual one.",
    ),
    click.option(
        "--address",
        callback=_check_address,
        default="C0:FF:EE:00:00:01",
        show_default=True,
        help="Its static random address.",
    ),
    click.option("--name", callback=_check_text, help="The name it advertises.  [default: its application]"),
    click.option(
        "--mtu", type=_Number(23, 517), default=247, show_default=True, help="Largest MTU it accepts."
    ),
    click.option("--pair/--no-pair", default=True, show_default=True, help="Whether it requires a bond."),
    click.option(
        "--interval-ms",
        type=_Number(7.5, 4000, fractions=True),
        help="Connection interval that it requests.  [default: no request]",
    ),
)


_PROTOCOL = (
    click.option(
        "--protocol",
        type=click.Choice(("rcp", "smp")),
        default="rcp",
        show_default=True,
        help="What it speaks. smp: as a Zephyr device with MCUboot and nothing of gatewayd's.",
    ),
)
_FRAMING = (
    click.option(
        "--framing",
        type=click.Choice([framing.value for framing in Framing]),
        default=Framing.CONSOLE.value,
        show_default=True,
        help="With smp: lines of text between log lines, or raw.",
    ),
)


@command.command()
@_options(_PORT, _PROTOCOL, _FRAMING, _IDENTITY, _LINE, _TEMPER)
def uart(**options: Any) -> None:
    """Run a device on a pseudo-terminal until SIGTERM or Ctrl-C.

    Integers may be hexadecimal (0x8000). The state directory holds `active.bin`, the image it runs,
    `device.json`, its identity, and `flash.bin`. Killing the process acts like a power cut.

    With --protocol smp it takes images made for MCUboot, and reports --hardware-id as its board; it reports
    neither an application nor a serial number. --max-frame is then the size of its buffers.
    """
    log = _check(options)
    asyncio.run(_run_uart(options, log))


@command.command()
@_options(_RADIO, _PROTOCOL, _IDENTITY, _TEMPER)
def ble(**options: Any) -> None:
    """Run a device on a Bluetooth controller until SIGTERM or Ctrl-C.

    This process needs the controller for itself: BlueZ must not use it (`bluetoothctl power off`). `vhci`
    creates a virtual adapter that hears only this device; it needs root and the module hci_vhci. The state
    directory is as for `uart`, with bonds in `bonds.json`, and so is --protocol smp. Needs bumble, which is
    not in Debian: pip install 'gatewayd[simulate-ble]'
    """
    log = _check(options)
    try:
        importlib.import_module("bumble")
    except ImportError as error:
        raise HostError(
            "bumble, which provides the device's Bluetooth stack, is not installed",
            code="bumble_missing",
            hint="pip install 'gatewayd[simulate-ble]', in a virtual environment",
        ) from error
    asyncio.run(_run_ble(options, log))


def _check(options: dict[str, Any]) -> Callable[[str], None]:
    """Check options against each other; return the function that logs a line."""
    if options["app_id"] is None and options["protocol"] != "smp":
        raise click.UsageError("Missing option '--app-id'.")
    block, unit, slot = options["erase_block"], options["write_unit"], options["slot_size"]
    if block % unit or slot % block:
        raise click.UsageError(
            f"--slot-size {slot} must be a multiple of --erase-block {block}, and that of --write-unit {unit}"
        )
    return _be_quiet if options["quiet"] else _say


def _stop_event() -> asyncio.Event:
    """Return the event that a signal to stop sets."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _open_receiver(options: dict[str, Any], log: Callable[[str], None], now: Callable[[], float]) -> Receiver:
    profile = _profile(options)
    receiver = open_device(options["state"], profile, log, now)
    _mention_differences(profile, receiver.profile, log)
    return receiver


async def _run_uart(options: dict[str, Any], log: Callable[[str], None]) -> None:
    clock, stop = make_clock(), _stop_event()
    device: UartDevice
    if options["protocol"] == "smp":
        device = open_smp_device(options, log, clock())
    else:
        device = _open_receiver(options, log, clock)
    terminal = Terminal(options["port"], device.baud)
    try:
        line = LineProfile(
            rate_bytes_per_s=options["rate"],
            latency_s=options["latency_ms"] / 1000,
            flip_rate=options["flip_rate"],
            drop_rate=options["drop_rate"],
        )
        virtual = VirtualUart(
            device,
            terminal,
            line,
            clock=clock,
            rng=random.Random(options["seed"]),  # noqa: S311 - faults, not keys
            power_cut_after=options["power_cut_after"],
        )
        log(f"listens at {options['port']}")
        await virtual.run(stop)
    finally:
        terminal.close()
    log("stops")


async def _run_ble(options: dict[str, Any], log: Callable[[str], None]) -> None:
    from gatewayd.simulator.ble import VirtualBle  # noqa: PLC0415
    from gatewayd.simulator.peripheral import Peripheral  # noqa: PLC0415
    from gatewayd.simulator.virtual_radio import device_on  # noqa: PLC0415 - bumble may not be there

    clock, stop = make_clock(), _stop_event()
    receiver, profile, name = _open_on_radio(options, log, clock)
    async with device_on(options["controller"], name, options["address"]) as device:
        peripheral = Peripheral(
            device,
            profile=profile,
            mtu=options["mtu"],
            needs_bond=options["pair"],
            interval_ms=options["interval_ms"],
        )
        peripheral.keep_bonds(options["state"] / _BONDS)
        virtual = VirtualBle(receiver, peripheral, clock=clock, power_cut_after=options["power_cut_after"])
        await peripheral.advertise()
        log(f"advertises as {name}, {options['address']}")
        await virtual.run(stop)
    log("stops")


def _open_on_radio(
    options: dict[str, Any], log: Callable[[str], None], clock: Callable[[], float]
) -> tuple["RadioDevice", GattProfile, str]:
    """Return the device, the service that it offers, and the name that it advertises."""
    if options["protocol"] == "smp":
        device = SmpRadio(open_smp_device(options, log, clock()), clock())
        return device, SMP_GATT, options["name"] or _SMP_NAME
    receiver = _open_receiver(options, log, clock)
    return receiver, RCP_GATT, options["name"] or receiver.profile.app_id


def _profile(options: dict[str, Any]) -> DeviceProfile:
    same = (
        "app_id",
        "version",
        "hardware_id",
        "device_id",
        "slot_address",
        "slot_size",
        "erase_block",
        "write_unit",
        "max_frame",
        "window",
        "rx_ring",
        "base_baud",
        "break_after_activate",
    )
    return DeviceProfile(
        **{name: options[name] for name in same if name in options},
        boot_s=options["boot_ms"] / 1000,
        boot_time_s=options["boot_ms"] // 1000 + 2,
        erase_s=options["erase_ms"] / 1000,
        trial_cap_s=options["trial_s"],
        can_revert=not options["no_trial"],
    )


def _mention_differences(asked: DeviceProfile, kept: DeviceProfile, log: Callable[[str], None]) -> None:
    for name in (
        "app_id",
        "hardware_id",
        "device_id",
        "slot_address",
        "slot_size",
        "erase_block",
        "write_unit",
    ):
        if getattr(asked, name) != getattr(kept, name):
            log(f"device.json says {name} {getattr(kept, name)!r}; not used: {getattr(asked, name)!r}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _be_quiet(_line: str) -> None:
    pass
