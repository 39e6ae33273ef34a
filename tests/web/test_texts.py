"""The catalogue has what the page says, and says what the documentation says."""

import json
import re
import shutil
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from lab.next_steps import documented
from lab.tree import ROOT
from lab.web import MadeUpGateway, a_web

from gatewayd.jobs.transitions import JobState
from gatewayd.status.board import Unwell
from gatewayd.web.cards import Group
from gatewayd.web.files import Files, languages

WEB = ROOT / "gatewayd" / "web"
CATALOGUES = {path.stem: json.loads(path.read_text()) for path in sorted((WEB / "texts").glob("*.json"))}
ENGLISH = CATALOGUES["en"]
SCRIPTS = "\n".join(path.read_text() for path in sorted((WEB / "static").glob("*.js")))
HTML = (WEB / "static" / "index.html").read_text()


def blanks(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_every_text_that_the_page_asks_for_is_there() -> None:
    asked = set(re.findall(r'\btext\("([\w.]+)"', SCRIPTS)) | set(re.findall(r'data-text="([\w.]+)"', HTML))
    asked |= {f"{key}.other" for key in re.findall(r'\bcounted\("([\w.]+)"', SCRIPTS)}
    assert len(asked) > 30
    assert asked - set(ENGLISH) == set()


def test_every_state_group_and_command_has_its_words() -> None:
    states = {f"state.{one}" for one in [*JobState, *Unwell, "idle", "unknown", "paused"]}
    groups = {f"{kind}.{one}" for one in Group for kind in ("group",)} | {
        f"count.{one}.other" for one in Group
    }
    commands = {f"action.{one}" for one in ("approve", "cancel", "retry", "pause", "resume")}
    assert (states | groups | commands) - set(ENGLISH) == set()


def test_no_text_is_left_over() -> None:
    built = (
        "state.",
        "group.",
        "count.",
        "action.",
        "next.",
        "ask.",
        "error.",
        "fact.",
        "last.",
        "connection.",
        "everything.",
        "found.",
    )
    left = {key for key in ENGLISH if not key.startswith(built) and f'"{key}"' not in SCRIPTS + HTML}
    assert left == set()


def test_the_next_steps_are_those_of_the_documentation() -> None:
    said = {key: text for key, text in ENGLISH.items() if key.startswith("next.")}
    assert len(said) > 150
    assert said == documented(), "`PYTHONPATH=tests python -m lab.next_steps` writes them anew"


@pytest.mark.parametrize("language", CATALOGUES)
def test_a_translation_has_no_text_of_its_own_and_every_blank(language: str) -> None:
    texts = CATALOGUES[language]
    plurals = re.compile(r"\.(zero|one|two|few|many|other)$")
    known = {plurals.sub("", key) for key in ENGLISH}
    assert {key for key in texts if plurals.sub("", key) not in known} == set()
    for key, text in texts.items():
        assert blanks(text) <= blanks(ENGLISH.get(key, text)), key


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("de-CH, de;q=0.9, en;q=0.8", ["de", "de", "en"]),
        ("en;q=0.1, fr", ["fr", "en"]),
        ("", [""]),
        ("x;q=y, de", ["de"]),
    ],
)
def test_the_browser_says_what_it_likes_best(header: str, order: list[str]) -> None:
    assert list(languages(header)) == order


async def test_the_texts_come_in_that_language_and_are_kept_by_the_browser(tmp_path: Path) -> None:
    async with a_web(tmp_path, MadeUpGateway()) as page:
        _, texts = await page.get("texts.json", **{"Accept-Language": "tlh, en;q=0.1"})
        assert texts["language"] == "en"
        async with page.browser.get(f"{page.address}page.js") as answer:
            tag = answer.headers["ETag"]
        async with page.browser.get(f"{page.address}page.js", headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")


async def test_a_translation_is_a_file_and_what_it_leaves_out_is_english(tmp_path: Path) -> None:
    shutil.copytree(WEB / "static", tmp_path / "static")
    shutil.copytree(WEB / "texts", tmp_path / "texts")
    (tmp_path / "texts" / "tlh.json").write_text('{"sign_out": "mej"}')
    request = make_mocked_request("GET", "/texts.json", headers={"Accept-Language": "tlh"})
    texts = json.loads(Files(tmp_path).texts(request).text or "")
    assert (texts["language"], texts["sign_out"], texts["search"]) == ("tlh", "mej", ENGLISH["search"])


def test_every_address_is_relative_so_that_the_page_may_be_anywhere() -> None:
    addresses = re.findall(r'(?:href|src)="([^"]+)"', HTML)
    addresses += re.findall(r'\b(?:fetch|ask|post|EventSource|from) ?\(?[`"]([^`"]+)[`"]', SCRIPTS)
    assert len(addresses) > 15
    assert [one for one in addresses if one.startswith("/") or "//" in one] == []
