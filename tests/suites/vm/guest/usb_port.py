"""The machine's USB port, operated from within: QEMU's own monitor is at the end of a virtio port."""

import json
from pathlib import Path
from typing import Any

PORTS = Path("/dev/virtio-ports")
SERIAL_NUMBER = "GW0001"
BY_ID = Path(f"/dev/serial/by-id/usb-QEMU_QEMU_USB_SERIAL_{SERIAL_NUMBER}-if00-port0")


class UsbPort:
    """Where an FTDI adapter is plugged in. Its line leads to the virtio port `board`."""

    def __init__(self) -> None:
        self._monitor = (PORTS / "monitor").open("r+b", buffering=0)
        self._order("qmp_capabilities")

    def plug(self) -> None:
        about = {"id": "adapter", "chardev": "board-near", "serial": SERIAL_NUMBER, "always-plugged": True}
        self._order("device_add", driver="usb-serial", **about)

    def unplug(self) -> None:
        self._order("device_del", id="adapter")

    def _order(self, command: str, **arguments: Any) -> None:
        order = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        self._monitor.write(json.dumps(order).encode() + b"\n")
        while True:  # events and the greeting come in between
            answer = json.loads(self._line())
            assert "error" not in answer, answer
            if "return" in answer:
                return

    def _line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._monitor.read(1)
        return bytes(line)
