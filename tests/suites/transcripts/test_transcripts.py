"""The recordings in the documentation are what the commands print today."""

import asyncio
import difflib
from pathlib import Path

import pytest

from suites.transcripts.__main__ import story
from suites.transcripts.page import PAGES, masked, recordings_in, with_recordings

WATCHED = """\
pump-1  queued (paused)  4.3.1  paused
pump-1  transferring  4.3.1 -> 4.3.2  25 %, 87.3 KiB/s, 4 s left, 1 resume
pump-1  transferring  4.3.1 -> 4.3.2  34 %, 88.3 KiB/s, 3 s left, 1 resume
pump-1  staged  4.3.1 -> 4.3.2
pump-1  succeeded  4.3.2
"""


PLACES = [(page, name) for page in PAGES for name in recordings_in(page.read_text())]


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """What the commands print today; the story is played once for all recordings."""

    async def play() -> dict[str, str]:
        async with story() as played:
            return await played.play()

    return asyncio.run(play())


@pytest.mark.parametrize(("page", "name"), PLACES, ids=lambda one: getattr(one, "name", one))
def test_a_recording_is_what_the_commands_print(page: Path, name: str, shown: dict[str, str]) -> None:
    recorded = recordings_in(page.read_text())[name]
    difference = difflib.unified_diff(
        masked(recorded).splitlines(),
        masked(shown[name]).splitlines(),
        f"{page.name}: {name}",
        "the command now",
        lineterm="",
    )
    lines = list(difference)
    assert not lines, "\n".join(["`make transcripts` writes this down, if it is meant:", *lines])


def test_every_recording_has_a_place(shown: dict[str, str]) -> None:
    assert {name for _, name in PLACES} == set(shown)


def test_the_mask_hides_how_often_a_transfer_was_looked_at_and_nothing_else() -> None:
    lines = WATCHED.splitlines(keepends=True)
    seldom = "".join(lines[:1] + lines[2:3] + lines[4:]).replace("34 %", "71 %")
    assert masked(seldom) == masked(WATCHED)
    for old, new in (
        ("transferring", "moving"),
        ("-> 4.3.2  ", "-> 4.3.3  "),
        ("(paused)", ""),
        ("pump", "tank"),
    ):
        assert masked(WATCHED.replace(old, new)) != masked(WATCHED), old


def test_a_recording_goes_where_its_marker_is() -> None:
    page = "<!-- recorded: one -->\n```console\n$ a\nold\n```\nprose\n"
    assert with_recordings(page, {"one": "$ a\nnew\n"}) == page.replace("old", "new")
    told = page.replace("old", "9 %")
    assert with_recordings(told, {"one": "$ a\n8 %\n"}) == told, "no noise in the history"
    with pytest.raises(KeyError):
        with_recordings(page, {"two": ""})
