"""A place with a radio in which the kernel has an adapter: bumble's controller, behind hci_vhci."""

from typing import TYPE_CHECKING

from bumble import hci, ll
from bumble.controller import Controller
from bumble.transport import open_transport
from bumble_radio import Air

from gatewayd.simulator.air import ACL_BYTES

if TYPE_CHECKING:
    from bumble.transport.common import Transport

# What bumble's controller says it can do, and BlueZ would then want to use.
CANNOT = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING


class OneAddress(Controller):
    """A controller that keeps its address.

    Linux scans under one that changes, and bumble's link would take what is sent on a connection meanwhile
    for somebody else's.
    """

    @property
    def random_address(self) -> hci.Address:
        return self.public_address

    @random_address.setter
    def random_address(self, _: hci.Address | str) -> None:
        pass


class KernelAir(Air):
    """The place. `plug` and `unplug` are what a USB stick goes through."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: Transport | None = None
        self._adapter: Controller | None = None

    async def plug(self) -> None:
        self._transport = await open_transport("vhci")
        controller = OneAddress("adapter", self._transport.source, self._transport.sink, self._link)
        controller.le_features &= ~CANNOT
        controller.le_acl_data_packet_length = ACL_BYTES
        self._adapter = controller

    async def unplug(self) -> None:
        """Take the adapter away; its connections end for the other side, too."""
        if self._adapter is None or self._transport is None:
            return
        for connection in list(self._adapter.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
        self._link.remove_controller(self._adapter)
        await self._transport.close()
        self._adapter = self._transport = None
