"""What the stories about updates have in common."""

from collections.abc import Callable

from gatewayd.protocol.session import Failed, Identified, ImageState, Outcome
from lab.rcp.joined import NEW_VERSION, Lab, make_image

IMAGE = make_image(20_001)  # five erase blocks, no multiple of a write unit
MakeLab = Callable[..., Lab]


def assert_updated(lab: Lab, outcome: Outcome) -> None:
    assert isinstance(outcome, Identified), outcome
    assert outcome.info.image_state is ImageState.CONFIRMED
    assert outcome.info.running == IMAGE.id
    assert (lab.device.running_version, lab.device.running_image) == (NEW_VERSION, IMAGE.content)


def failed_code(outcome: Outcome) -> str:
    assert isinstance(outcome, Failed), outcome
    return outcome.error.code
