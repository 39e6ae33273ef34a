"""`gatewayctl simulate --protocol smp`: what its options mean for a device with SMP."""

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from gatewayd.ota.version import Version
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.smp.device import SmpDevice
from gatewayd.simulator.smp.server import OVERWRITE_ONLY, SWAP_USING_OFFSET, ServerProfile

# What the protocol, or MCUboot's swap, has no place for.
_MEANINGLESS = ("app_id", "device_id", "slot_address", "window", "rx_ring", "write_unit", "trial_s")
_BOARD = "virtual/smp"


def open_smp_device(options: dict[str, Any], log: Callable[[str], None], now: float) -> SmpDevice:
    """Start the device in the state directory, a new one if it is empty. Raises HostError."""
    _mention_meaningless(log)
    profile = ServerProfile(
        board=options["hardware_id"] or _BOARD,
        buffer_size=options["max_frame"],
        boot_s=options["boot_ms"] / 1000,
        erase_s=options["erase_ms"] / 1000 * (options["slot_size"] // options["erase_block"]),
        mode=OVERWRITE_ONLY if options["no_trial"] else SWAP_USING_OFFSET,
        framing=Framing(options.get("framing", Framing.RAW)),  # a radio has none
        slot_size=options["slot_size"],
    )
    device = SmpDevice(
        options["state"],
        profile,
        Version.parse(options["version"]),
        baud=options.get("base_baud", 0),
        log=log,
        now=now,
        hangs_on_trial=options["break_after_activate"],
    )
    if options["hardware_id"] not in (None, device.profile.board):
        log(f"device.json says hardware_id {device.profile.board!r}; not used: {options['hardware_id']!r}")
    return device


def _mention_meaningless(log: Callable[[str], None]) -> None:
    context = click.get_current_context()
    given = [
        f"--{name.replace('_', '-')}"
        for name in _MEANINGLESS
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        log(f"not used with SMP: {', '.join(given)}")
