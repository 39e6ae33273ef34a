"""Which topic of ours another one was probably meant to be."""

import pytest

from gatewayd.ota.topic import TopicTemplate


@pytest.mark.parametrize(
    ("template", "typed", "meant"),
    [
        ("/a/{app_id}/u/{major}.{minor}", "a/pump/u/4.3", "/a/pump/u/4.3"),
        ("a/{app_id}/u/{major}.{minor}", "/a/pump/u/4.3", "a/pump/u/4.3"),
        ("/a/{app_id}/u/{major}.{minor}", "/a/pump/u/4.3/s/", "/a/pump/u/4.3/s"),
        ("/a/{app_id}/u/{major}.{minor}", " /a/pump/u/4.3\n", "/a/pump/u/4.3"),
        ("/a/{app_id}/u/{major}.{minor}", "/a/pump/u", None),
        ("/a/{app_id}/u/{major}.{minor}", "", None),
    ],
)
def test_a_slash_too_many_or_too_few(template: str, typed: str, meant: str | None) -> None:
    assert TopicTemplate(template).suggest(typed) == meant
