"""Topics from a broker to which a dot is a level: told where there is no doubt, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.ota.topic import DEFAULT_TEMPLATE, Channel, OtaTopic, TopicTemplate
from gatewayd.ota.topic_levels import as_levels, collisions, readings, subscribed_as

TEMPLATES = [
    DEFAULT_TEMPLATE,
    "a/{app_id}/u/{major}.{minor}",
    "{major}/{minor}/{app_id}",
    "fw.{app_id}/{major}-{minor}",
]
APP_IDS = st.text(st.sampled_from("abu.1_ "), min_size=1, max_size=8)
NUMBERS = st.integers(0, 400)


@given(st.sampled_from(TEMPLATES), APP_IDS, NUMBERS, NUMBERS, st.sampled_from(Channel))
def test_what_was_subscribed_to_is_found_again(
    form: str, app_id: str, major: int, minor: int, channel: Channel
) -> None:
    template = TopicTemplate(form)
    topic = template.build(OtaTopic(app_id, major, minor, channel))
    arrived = as_levels(topic)
    others = [template.build(OtaTopic("other", major, minor, channel))]
    assert subscribed_as(arrived, [topic, *others]) == ([topic] if arrived != topic else [])
    for reading in readings(template, arrived):
        assert as_levels(reading) == arrived
        assert template.parse(reading) is not None
    if "." not in app_id:
        assert topic in readings(template, arrived)


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [
        ("/a/pump/u/4/3", ["/a/pump/u/4.3"]),
        ("/a/pump/u/4/3/s", ["/a/pump/u/4.3/s"]),
        ("/a/pump/u/12/345/u", ["/a/pump/u/12.345/u"]),
        ("/a/pump/v2/u/4/3", ["/a/pump.v2/u/4.3"]),
        ("/a/x/u/1/2/u/4/3", ["/a/x.u.1.2/u/4.3"]),
        ("/a/pump/u/4", []),
        ("/a/pump/u/4/3/x", []),
        ("/a/pump/u/04/3", []),
        ("/a/pump/u/4.3", []),
        ("gatewayd/barn/status", []),
    ],
)
def test_readings(arrived: str, expected: list[str]) -> None:
    assert readings(TopicTemplate(), arrived) == expected


def test_collisions() -> None:
    template = TopicTemplate("{major}/{minor}/{app_id}")
    stable = OtaTopic("x", 4, 3, Channel.STABLE)
    dotted = OtaTopic("x.s", 4, 3, Channel.NONE)
    assert collisions(template, [stable, dotted, OtaTopic("y", 4, 3, Channel.NONE)]) == [(stable, dotted)]
    assert collisions(TopicTemplate(), [stable, dotted]) == []
