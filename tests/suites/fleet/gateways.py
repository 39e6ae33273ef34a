"""Many gateways in few processes: `python -m suites.fleet.gateways CONFIG FIRST COUNT` runs some of them.

Each gateway is the daemon's own `Daemon`, `Store` and session with the broker, with its own state directory
and control socket. Only the lines are not real: behind each there is the simulator's receiver in memory, at
the other end of a `Link` that takes no time.
"""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from gatewayd import log
from gatewayd.config import Device, Host, Settings, load
from gatewayd.daemon import Daemon
from gatewayd.link.base import LeadsToOne, Link
from gatewayd.link.factory import LinkFactory
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from gatewayd.store.store import Store

SLOT_ADDRESS = 0x2000
SLOT_SIZE = 64 * 1024


class MemoryLink(LeadsToOne):
    """A line to a receiver in this process; lives as long as it is open."""

    is_datagram = False
    vanishes_with_device = False
    max_datagram = None

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        self._turn()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:  # noqa: ARG002 - as Link has it
        self._receiver.receive_data(data, self._loop.time())
        self._turn()

    async def receive(self) -> bytes:
        return await self._heard.get()

    async def set_baud(self, baud: int) -> None:
        """There is no speed."""

    def _turn(self) -> None:
        """Let the device do what is due, take what it says, and come back in time."""
        now = self._loop.time()
        due = self._receiver.next_deadline()
        if due is not None and now >= due:
            self._receiver.handle_timeout(now)
        while said := self._receiver.data_to_send(now):
            self._heard.put_nowait(said)
        due = self._receiver.next_deadline()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._turn) if due is not None else None


class MemoryLinks(LinkFactory):
    """Devices that are there for as long as the gateway is."""

    def __init__(self) -> None:
        super().__init__({})
        self._receivers: dict[str, Receiver] = {}

    def make(self, device: Device) -> Link:
        if device.name not in self._receivers:
            self._receivers[device.name] = Receiver(
                DeviceProfile(
                    app_id=device.app_id,
                    version=str(device.version),
                    slot_address=SLOT_ADDRESS,
                    slot_size=SLOT_SIZE,
                    can_set_baud=False,
                ),
                now=asyncio.get_running_loop().time(),
            )
        return MemoryLink(self._receivers[device.name])


def gateway_name(number: int) -> str:
    return f"gw-{number:03}"


async def run_gateway(settings: Settings) -> None:
    async with Store(settings.gateway.state_dir) as store:
        await Daemon(settings, store, MemoryLinks()).run(asyncio.Event())


async def run_gateways(config: Path, first: int, count: int) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = []
        for number in range(first, first + count):
            settings = load(config, Host(gateway_name(number)))
            running.append(tasks.create_task(run_gateway(settings)))
        await stop.wait()
        for task in running:
            task.cancel()


if __name__ == "__main__":
    log.configure()
    asyncio.run(run_gateways(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
