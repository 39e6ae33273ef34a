"""Each file in bad/ is named by what is wrong with it; beside it stands what a person is told."""

import shutil
from pathlib import Path

import pytest
import yaml

from gatewayd.config import ConfigErrors, document, load

BAD = Path(__file__).parent / "bad"
FILES = sorted(BAD.glob("*.yaml"))


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: below /home, where a clone often is, missing files get another advice."""
    root = tmp_path_factory.mktemp("tests")
    shutil.copytree(BAD.parents[1] / "vectors" / "sming", root / "vectors" / "sming")
    return shutil.copytree(BAD, root / "config" / "bad")


def complaint(file: Path, folder: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load(folder / file.name)
    assert caught.value.code == "bad_configuration"
    return f"{caught.value}\n".replace(f"{folder}/", "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_bad_file_gets_exactly_these_complaints(file: Path, folder: Path) -> None:
    assert complaint(file, folder) == file.with_suffix(".expected").read_text()


def test_every_expectation_has_its_file() -> None:
    assert [file.with_suffix(".expected") for file in FILES] == sorted(BAD.glob("*.expected"))
    assert len(FILES) > 50


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_without_libyaml_the_complaints_are_the_same(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert complaint(file, folder) == file.with_suffix(".expected").read_text()


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    for file in FILES:
        assert "hunter2" not in file.with_suffix(".expected").read_text()
    assert any("hunter2" in file.read_text(errors="replace") for file in FILES)
