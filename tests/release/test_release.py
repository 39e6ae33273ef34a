"""`make release`: what it refuses, and what it changes when it cuts a version. Nothing is built here."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab.tree import ROOT

DEVICE = ("device/rcp.h", "device/library.json", "device/library.properties", "device/idf_component.yml")
FILES = ("CHANGELOG.md", "pyproject.toml", "gatewayd/__init__.py", "debian/changelog", *DEVICE)
SCRIPT = ROOT / ".ci" / "release.py"


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    """A repository with what a release reads, at version 0.1.0, with something unreleased."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "gatewayd" / "__init__.py").write_text('"""Delivers."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Everything.\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "Somebody")
    git(tmp_path, "config", "user.email", "somebody@example.com")
    commit(tmp_path)
    return tmp_path


def git(tree: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=tree, check=True, capture_output=True, text=True).stdout


def commit(tree: Path) -> None:
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "Change")


def release(tree: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, str(SCRIPT), "--check", "--root", str(tree), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    return ran.returncode, ran.stdout + ran.stderr


def test_a_version_is_cut_in_one_commit(tree: Path) -> None:
    code, said = release(tree, "0.2.0")

    assert code == 0, said
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "log", "-1", "--format=%s").strip() == "Release 0.2.0"
    assert (tree / "gatewayd" / "__init__.py").read_text().endswith('__version__ = "0.2.0"\n')
    assert (tree / "debian" / "changelog").read_text().startswith("gatewayd (0.2.0) trixie; urgency=medium\n")
    changes = (tree / "CHANGELOG.md").read_text()
    assert re.search(
        r"\n## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- Everything\.\n", changes
    )
    assert release(tree)[0] == 0, "what was cut can be built again"


def test_the_receiver_s_packages_get_the_version(tree: Path) -> None:
    assert release(tree, "0.2.0")[0] == 0
    numbers = re.findall(r"RCP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", (tree / "device" / "rcp.h").read_text())
    assert numbers == ["0", "2", "0"]
    assert json.loads((tree / "device" / "library.json").read_text())["version"] == "0.2.0"
    assert "\nversion=0.2.0\n" in (tree / "device" / "library.properties").read_text()
    assert 'version: "0.2.0"\n' in (tree / "device" / "idf_component.yml").read_text()


def test_dpkg_reads_the_entry(tree: Path) -> None:
    release(tree, "0.2.0")
    entry = (tree / "debian" / "changelog").read_text().partition("\n\ngatewayd")[0]
    assert re.fullmatch(
        r"gatewayd \(0\.2\.0\) trixie; urgency=medium\n\n  \* .+\n\n"
        r" -- [^<]+ <[^>]+>  \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000",
        entry,
    )


def test_a_dirty_tree_is_refused(tree: Path) -> None:
    (tree / "left").touch()
    code, said = release(tree, "0.2.0")
    assert (code, "not committed" in said, "?? left" in said) == (1, True, True)
    assert git(tree, "log", "-1", "--format=%s").strip() == "Change"


def test_a_version_without_a_section_is_refused(tree: Path) -> None:
    code, said = release(tree)
    assert (code, "no section '## [0.1.0] - DATE'" in said) == (1, True)
    assert "make release VERSION=0.1.0" in said


@pytest.mark.parametrize(
    ("version", "why"),
    [("0.0.9", "older than 0.1.0"), ("0.2", "MAJOR.MINOR.PATCH"), ("v1.0.0", "is no version")],
)
def test_a_version_that_cannot_come_next_is_refused(tree: Path, version: str, why: str) -> None:
    code, said = release(tree, version)
    assert (code, why in said) == (1, True), said
    assert git(tree, "status", "--porcelain") == ""


def test_nothing_unreleased_is_no_release(tree: Path) -> None:
    assert release(tree, "0.2.0")[0] == 0
    code, said = release(tree, "0.3.0")
    assert (code, "nothing under [Unreleased]" in said) == (1, True)


def test_what_was_released_is_not_cut_again(tree: Path) -> None:
    release(tree, "0.2.0")
    changes = (tree / "CHANGELOG.md").read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n- More.\n")
    (tree / "CHANGELOG.md").write_text(changes)
    commit(tree)
    code, said = release(tree, "0.2.0")
    assert (code, "has a section for 0.2.0 already" in said) == (1, True)


def test_a_package_of_another_version_is_refused(tree: Path) -> None:
    release(tree, "0.2.0")
    (tree / "debian" / "changelog").write_text("gatewayd (0.1.9) trixie; urgency=medium\n")
    commit(tree)
    code, said = release(tree)
    assert (code, "expected version 0.2.0" in said) == (1, True)


def test_placeholders_are_named(tree: Path) -> None:
    assert "project.urls in pyproject.toml are placeholders" in release(tree, "0.2.0")[1]


def test_sha256sum_accepts_the_checksums_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "gatewayd-1.0.0.tar.gz").write_bytes(b"an sdist")
    (tmp_path / "apt" / "pool").mkdir(parents=True)
    (tmp_path / "apt" / "pool" / "gatewayd_1.0.0_all.deb").write_bytes(b"a package")
    runpy.run_path(str(SCRIPT))["write_checksums"](tmp_path)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    ran = subprocess.run(command, cwd=tmp_path, check=True, timeout=200, capture_output=True, text=True)
    assert ran.stdout == "apt/pool/gatewayd_1.0.0_all.deb: OK\ngatewayd-1.0.0.tar.gz: OK\n"


def test_a_release_without_a_part_is_refused(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    debs, receivers = tmp_path / "build" / "deb", tmp_path / "device" / "build" / "dist"
    for folder in (debs, receivers):
        folder.mkdir(parents=True)
    (tmp_path / "release").mkdir()
    for name in ("gatewayd_1.0.0_all.deb", "gatewayd-web_0.9.0_all.deb"):
        (debs / name).touch()
    (receivers / "gatewayd-rcp-1.0.0.tar.gz").touch()
    with pytest.raises(script["Refused"], match=r"no gatewayd-web_1\.0\.0"):
        script["collect"](tmp_path, "1.0.0", tmp_path / "release")
    (debs / "gatewayd-web_1.0.0_all.deb").touch()
    script["collect"](tmp_path, "1.0.0", tmp_path / "release")
    assert {path.name for path in (tmp_path / "release").iterdir()} == {
        "gatewayd_1.0.0_all.deb",
        "gatewayd-web_1.0.0_all.deb",
        "gatewayd-rcp-1.0.0.tar.gz",
    }
