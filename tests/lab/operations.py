"""Operations with a real receiver, for tests and benchmarks, to the outcome they should have."""

from gatewayd.delivery.pump import Pump
from gatewayd.protocol.session import DeviceInfo, Identified, Image, Staged

PATIENCE_S = 5.0


async def identify(talk: Pump) -> DeviceInfo:
    """Ask who is there. Raises LinkLost."""
    talk.session.identify(talk.now, PATIENCE_S)
    outcome = await talk.outcome()
    assert isinstance(outcome, Identified), outcome
    return outcome.info


async def bring(talk: Pump, image: Image) -> None:
    """Transfer an image until it is staged. Raises LinkLost."""
    talk.session.transfer(image, talk.now)
    outcome = await talk.outcome()
    assert isinstance(outcome, Staged), outcome
