"""Recordings in pages: between a marker with their name and the end of the block that follows it."""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "docs" / "operations.md", ROOT / "docs" / "smp.md", ROOT / "README.md")
_RECORDING = re.compile(r"(<!-- recorded: ([\w-]+) -->\n```console\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
# What differs from one evening to the next, and from one machine to another; everything else must agree.
_VOLATILE = (
    # Doctor's lines are wrapped behind figures of any length; in one line they can be compared.
    (r"\n {9}(?! *→)", " "),
    (r"^(?:ok|warning|failure) +(clock|SQLite|event loop):.*(?:\n +→.*)*", r"\1 …"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d\b|\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b[0-9a-f]{64}\b", "SHA-256"),
    (r"\bprocess \d+", "process N"),
    (r"\brevision [0-9a-f]{12}\b", "revision R"),
    (r"/dev/pts/\d+", "/dev/pts/N"),
    (r'("(?:progress|received_bytes|bytes_per_s|seconds_left)"): \d+', r"\1: N"),
    (r"[━╸╺]+(?= +\d+ %)", "BAR"),
    (r"\d+ %", "N %"),
    (r"\b(?:\d{4}-\d\d-\d\d )?\d\d:\d\d(?::\d\d)?Z", "TIME"),
    (r"\b\d+(?:\.\d)? (?:B|KiB|MiB)\b", "SIZE"),
    (r"\b\d+(?:\.\d)? s\b|\b\d+:\d\d\b", "DURATION"),
    # How many lines a transfer has depends on how often somebody looked; a short state may be missed.
    (r"^(\S+  transferring  \S+ -> \S+).*\n(?:\1.*\n)*", r"\1\n"),
    (r"^\S+  (?:queued|staged)  .*\n", ""),
    # Columns are as wide as their figures, and closer together where they would not fit.
    (r"(?<=\S) {2,}", " "),
)


def recordings_in(page: str) -> dict[str, str]:
    """The recordings of a page by their names."""
    return {name: text for _, name, text, _ in _RECORDING.findall(page)}


def with_recordings(page: str, recordings: Mapping[str, str]) -> str:
    """The page with new recordings, but for those that are the same when masked: they would be noise.

    Raises KeyError for one that there is not.
    """

    def renewed(found: re.Match[str]) -> str:
        head, name, old, end = found.groups()
        new = recordings[name]
        return head + (old if masked(old) == masked(new) else new) + end

    return _RECORDING.sub(renewed, page)


def record_pages(recordings: Mapping[str, str]) -> None:
    """Write recordings into the pages. Raises ValueError when one has no place, KeyError as above."""
    texts = {page: page.read_text() for page in PAGES}
    places = {name for text in texts.values() for name in recordings_in(text)}
    if homeless := recordings.keys() - places:
        raise ValueError(f"no page has a place for {sorted(homeless)}")
    for page, text in texts.items():
        page.write_text(with_recordings(text, recordings))


def masked(recording: str) -> str:
    """A recording without what is volatile."""
    for pattern, said in _VOLATILE:
        recording = re.sub(pattern, said, recording, flags=re.MULTILINE)
    return recording
