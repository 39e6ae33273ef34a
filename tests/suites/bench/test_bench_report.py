"""What `make bench` writes, and the sections that measure a whole daemon."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from lab.tree import ROOT

from suites.bench import __main__ as bench
from suites.bench import smp_server
from suites.bench.daemons import configure_absent, fresh_farm, memory_mib, ready_after_s
from suites.bench.delays import first_data_steps
from suites.bench.goals import misses
from suites.bench.section import Scale, Section, markdown, spread

CLEAN = {"receiver": "c", "rate": 92160, "latency_ms": 20, "flip_rate": 0, "chunk": 1024, "window": 4096}


def test_figures_that_miss_their_goal_are_named() -> None:
    document = {
        "rcp_uart": [
            CLEAN | {"efficiency": 0.979},
            CLEAN | {"efficiency": 0.98},
            CLEAN | {"efficiency": 0.97, "chunk": 512},
            CLEAN | {"efficiency": 0.7, "flip_rate": 1e-4},
        ],
        "rss_mib": [{"devices": 200, "idle_mib": 62.1}, {"devices": 32, "idle_mib": 80.0}],
    }
    line, memory = misses(document)
    assert line == (
        "c, 92160 bytes/s, 20 ms, chunk 1024, window 4096: 97.9% of a clean line, the goal is 98.0%"
    )
    assert memory == "62.1 MiB idle with 200 devices configured, the goal is 62"
    assert list(misses({})) == []


def test_a_table_is_markdown() -> None:
    assert markdown("name, figure:", [["a", 1]]) == "| name | figure |\n| --- | --: |\n| a | 1 |"


def test_a_figure_is_the_median_with_its_spread() -> None:
    assert spread("seconds", [3, 1, 1.26], 1) == {"seconds": 1.3, "lowest": 1, "highest": 3}


def test_a_section_that_is_run_alone_is_alone_in_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smp_server, "PROGRAMS", ("no-such-emulator",))
    output = tmp_path / "build" / "bench.json"
    result = CliRunner().invoke(bench.main, ["--quick", "--only", "smp_peer", "-o", str(output)])
    assert result.exit_code == 0, result.output
    document = json.loads(output.read_text())
    assert document["about"]["runs"] == 1
    assert document["smp_peer"] == {"absent": "no-such-emulator is not installed"}
    assert set(document) == {"about", "smp_peer"}
    assert "absent: no-such-emulator is not installed" in output.with_suffix(".md").read_text()


@pytest.mark.parametrize("option", ["--quick", "--only=smp_peer"])
def test_only_a_whole_run_goes_into_the_documentation(tmp_path: Path, option: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{bench.BEGIN}\nold\n{bench.END}\n")
    result = CliRunner().invoke(bench.main, [option, "--into", str(page), "-o", str(tmp_path / "x.json")])
    assert result.exit_code == 2
    assert "old" in page.read_text()


def test_goals_are_not_judged_by_small_images() -> None:
    document = {"rcp_uart": [CLEAN | {"efficiency": 0.5, "lowest": 0.5, "highest": 0.5}]}
    for is_quick in (False, True):
        text = bench.report({"about": bench.about(Scale(1, is_quick))} | document, bench.SECTIONS)
        assert ("Goals missed" in text) is not is_quick


async def test_a_section_that_fails_does_not_cost_the_figures_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def breaks(_scale: Scale) -> None:
        raise AssertionError("the line is dead")

    async def works(_scale: Scale) -> list[int]:
        return [1]

    sections = [Section("first", "First", breaks, str), Section("second", "Second", works, str)]
    document = await bench.measure(sections, Scale())
    assert (document["failed"], document["second"]) == (["first"], [1])
    assert "first" not in document
    assert "the line is dead" in capsys.readouterr().err
    text = bench.report(document, sections)
    assert "**first failed: there are no figures of it.**" in text
    assert "### Second\n\n[1]" in text
    assert "### First" not in text


def test_each_section_has_its_own_key() -> None:
    keys = [section.key for section in bench.SECTIONS]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "rcp_uart"


def test_the_tables_take_the_place_of_those_before_in_the_document() -> None:
    text = f"above\n{bench.BEGIN}\nold\n{bench.END}\nbelow\n"
    changed = bench.put_between_marks(text, "new\n")
    assert changed == f"above\n{bench.BEGIN}\nnew\n{bench.END}\nbelow\n"
    with pytest.raises(click.ClickException):
        bench.put_between_marks("above\nbelow\n", "new\n")


def test_the_documentation_holds_and_explains_every_section() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    tables = text.partition(bench.BEGIN)[2].partition(bench.END)[0]
    for section in bench.SECTIONS:
        assert f"### {section.title}\n" in tables
        assert f"`{section.key}`" in text.replace(tables, "")


async def test_an_idle_daemon_is_measured_from_its_start_on() -> None:
    async with fresh_farm() as whole:
        names = configure_absent(whole, 2)
        assert await ready_after_s(whole.gateway) > 0
        await whole.gateway.until(lambda: set(names) <= set(whole.gateway.status), "both reported")
        idle, peak = (memory_mib(whole.gateway, field) for field in ("VmRSS", "VmHWM"))
        assert 0 < idle <= peak


async def test_the_steps_to_the_first_data_come_in_their_order() -> None:
    steps = await first_data_steps(1)
    assert list(steps.values()) == sorted(steps.values())
    assert steps["stored_s"] > 0
