"""What a message would do, before it is stored."""

from pathlib import Path

from lab.jobs import a_device, some_settings
from lab.smp.recipes import Recipe, make_image

from gatewayd.images.reader import FirmwareReader
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.planning.preview import Preview, forecasts, with_message
from gatewayd.store.spool import Spool

TOPIC = OtaTopic("pump", 4, 3, Channel.NONE)
NOTHING = StoreSnapshot((), {}, {}, ())
SETTINGS = some_settings(a_device(protocol="smp"))


async def preview(folder: Path, message: bytes) -> Preview:
    return await with_message(
        SETTINGS,
        NOTHING,
        FirmwareReader(Spool(folder / "spool")),
        topic=TOPIC,
        topic_text="/a/pump/u/4.3",
        message=message,
    )


async def test_an_image_says_its_version_and_a_contradiction_is_refused(tmp_path: Path) -> None:
    image = make_image(Recipe((4, 3, 9, 5)))
    for patch, would in ((9, "update"), (8, "image_version_differs")):
        found = await preview(tmp_path, bytes([patch]) + image)
        assert found.own_versions == ("4.3.9",)
        assert [one.decision.code for one in forecasts(SETTINGS, found)] == [would]


async def test_what_is_no_such_image_says_none(tmp_path: Path) -> None:
    assert (await preview(tmp_path, b"\x09" + bytes(600))).own_versions == ()
    assert (await preview(tmp_path, b"")).own_versions == ()
