"""A place with a radio in which the kernel has an adapter: bumble's controller, behind hci_vhci."""

from typing import TYPE_CHECKING

from bumble import hci, ll
from bumble.transport import open_transport
from lab.bumble_radio import Air

if TYPE_CHECKING:
    from bumble.controller import Controller
    from bumble.transport.common import Transport


class KernelAir(Air):
    """The place. `plug` and `unplug` are what a USB stick goes through."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: Transport | None = None
        self._adapter: Controller | None = None

    async def plug(self) -> None:
        self._transport = await open_transport("vhci")
        self._adapter = self.lend(self._transport.source, self._transport.sink)

    async def unplug(self) -> None:
        """Take the adapter away; its connections end for the other side, too."""
        if self._adapter is None or self._transport is None:
            return
        for connection in list(self._adapter.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
        self._link.remove_controller(self._adapter)
        await self._transport.close()
        self._adapter = self._transport = None
