"""RCP as the rest of gatewayd sees it."""

from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.kind import ProtocolKind, SessionContext
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.reactions import BUSY_SUM_S

# docs/protocol.md, section "Bluetooth Low Energy".
GATT = GattProfile(
    offers="RCP",
    service="c1b70001-3e5a-4d8b-9f06-67617465776d",
    to_device="c1b70002-3e5a-4d8b-9f06-67617465776d",
    from_device="c1b70003-3e5a-4d8b-9f06-67617465776d",
)


def make_session(context: SessionContext) -> RcpGateway:
    """Return a session for one opening of a link."""
    return RcpGateway(
        context.gateway_id,
        base_baud=context.baud,
        transfer_baud=context.transfer_baud,
        datagram=context.is_datagram,
        busy_s=BUSY_SUM_S if context.busy_s is None else context.busy_s,
        ack_floor_s=context.answer_floor_s,
        random=context.random,
    )


RCP = ProtocolKind(name="rcp", title="RCP", make_session=make_session, gatt=GATT, retries_reverted_once=True)
