"""The model answers as the real server did: the recorded conversation, played to it."""

from lab.smp.script import conversation, plain, play, read_recording
from suites.smp.players import Model

from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots


async def test_the_model_answers_as_the_recorded_server() -> None:
    recorded = read_recording()
    applications = recorded.applications
    slots = Slots(
        applications["old"],
        verify=lambda _image: True,
        hangs=lambda image: image not in applications.values(),
    )
    server = SmpServer(slots, ServerProfile(), 0.0)
    model = Model(server)
    await model.wait(1.0)
    steps = [pair async for pair in play(conversation(applications), model)]
    assert len(steps) == len(recorded.answers)
    for (step, answers), expected in zip(steps, recorded.answers, strict=True):
        assert plain(answers) == plain(expected), step.name
    assert slots.trials == 3
