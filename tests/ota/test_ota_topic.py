import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import ConfigError, FirmwareError
from gatewayd.ota.topic import Channel, OtaTopic, TopicTemplate, validate_app_id
from gatewayd.ota.version import LIMIT

TEMPLATES = [
    "/a/{app_id}/u/{major}.{minor}",
    "a/{app_id}/u/{major}.{minor}",
    "{app_id}-{major}-{minor}",
    "{minor}x{app_id}y{major}",
    "ota/1{major}/{minor}/{app_id}",
    "a.*/{app_id}/[{major}|{minor}]/9",
]
NUMBERS = st.integers(0, LIMIT - 1)


def _is_app_id(text: str) -> bool:
    try:
        validate_app_id(text)
    except ConfigError:
        return False
    return True


APP_IDS = st.text(min_size=1, max_size=64).filter(_is_app_id) | st.text("ab-.xy019su", min_size=1, max_size=6)
TOPICS = st.builds(OtaTopic, APP_IDS, NUMBERS, NUMBERS, st.sampled_from(Channel))


@given(st.sampled_from(TEMPLATES), TOPICS)
def test_parse_undoes_build(template: str, topic: OtaTopic) -> None:
    ours = TopicTemplate(template)
    assert ours.parse(ours.build(topic)) == topic


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        (Channel.NONE, "/a/pump/u/4.3"),
        (Channel.STABLE, "/a/pump/u/4.3/s"),
        (Channel.UNSTABLE, "/a/pump/u/4.3/u"),
    ],
)
def test_topics_are_those_of_sming(channel: Channel, text: str) -> None:
    assert TopicTemplate().build(OtaTopic("pump", 4, 3, channel)) == text
    assert TopicTemplate().parse(text) == OtaTopic("pump", 4, 3, channel)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/pump/u/4.3",
        "/a/pump/u/4.3/",
        "/a/pump/u/4.3/x",
        "/a/pump/u/4.3/s/s",
        "/a/pump/u/04.3",
        "/a/pump/u/4.03",
        "/a/pump/u/4",
        "/a/pump/u/4.3.1",
        "/a/pump/u/-4.3",
        "/a/pump/u/٤.3",
        "/a/pump/u/4.3\n",
        "/a/pump/u/4x3",
        "/a//u/4.3",
        "/a/p/q/u/4.3",
        "/a/+/u/4.3",
        "/a/pu\0mp/u/4.3",
        "/a/" + "p" * 65 + "/u/4.3",
        f"/a/pump/u/{LIMIT}.3",
        f"/a/pump/u/4.{LIMIT}",
        "/a/pump/u/4." + "9" * 5000,
        "/a/" + "p" * 100_000 + "/u/4.3",
    ],
)
def test_what_is_not_ours_is_none(topic: str) -> None:
    assert TopicTemplate().parse(topic) is None


@given(st.text(max_size=60))
def test_any_text_parses_or_is_not_ours(topic: str) -> None:
    for template in TEMPLATES:
        ours = TopicTemplate(template)
        parsed = ours.parse(topic)
        assert parsed is None or ours.build(parsed) == topic


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "exactly once"),
        ("/a/{app_id}/u/{major}", "exactly once"),
        ("/a/{app_id}/u/{major}.{minor}.{minor}", "exactly once"),
        ("/a/{app_id}/u/{major}.{minor}/{channel}", "no other placeholder"),
        ("/a/{app_id}/u/{major}.{minor}/{}", "no other placeholder"),
        ("/a/{app_id!r}/u/{major}.{minor}", "no other placeholder"),
        ("/a/{{app_id}}/u/{major}.{minor}", "brace"),
        ("/a/{app_id}/u/{major}.{minor}}", "brace"),
        ("/a/{app_id}/u/{major}{minor}", "two ways"),
        ("/a/{app_id}{major}.{minor}", "two ways"),
        ("/a/{app_id}/u/{major}0{minor}", "two ways"),
        ("+/{app_id}/u/{major}.{minor}", "wildcard"),
        ("/a/{app_id}/u/{major}.{minor}/#", "wildcard"),
        ("/a\0/{app_id}/u/{major}.{minor}", "U+0000"),
        ("/a\ud800/{app_id}/u/{major}.{minor}", "U+D800"),
        ("$share/g/{app_id}/u/{major}.{minor}", "'$'"),
        ("a" * 1024 + "{app_id}/u/{major}.{minor}", "longer"),
    ],
)
def test_an_unusable_template_is_refused(template: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TopicTemplate(template)
    assert refused.value.code == "bad_topic_template"
    assert says in refused.value.message


@pytest.mark.parametrize("text", ["", "a/b", "a+", "#", "a\0", "a\n", "\x85", "\ud800", "p" * 65, "é" * 33])
def test_what_cannot_be_an_app_id_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        OtaTopic(text, 1, 0, Channel.NONE)
    assert refused.value.code == "bad_app_id"


@pytest.mark.parametrize("text", ["p", "p" * 64, "é" * 32, "pump rev.b", "{x}", "$x"])
def test_what_can_be_an_app_id_is_accepted(text: str) -> None:
    topic = OtaTopic(text, 1, 0, Channel.NONE)
    assert TopicTemplate().parse(TopicTemplate().build(topic)) == topic


@pytest.mark.parametrize("numbers", [(-1, 0), (0, -1), (LIMIT, 0), (0, LIMIT)])
def test_numbers_that_no_topic_carries_are_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(FirmwareError) as refused:
        OtaTopic("pump", *numbers, Channel.NONE)
    assert refused.value.code == "bad_version"


def test_templates_compare_by_their_text() -> None:
    assert TopicTemplate() == TopicTemplate(TEMPLATES[0])
    assert len({TopicTemplate(), TopicTemplate(TEMPLATES[0]), TopicTemplate(TEMPLATES[1])}) == 2
