"""The Debian package of this tree."""

import os
import subprocess
from pathlib import Path

from vm.image import ROOT

MADE_OF = ("gatewayd", "debian", "systemd", "pyproject.toml")
FOLDER = ROOT / "build" / "deb"


def make() -> Path:
    """Return it; built when it is older than what it is made of. Its own tests are for `make deb`."""
    newest = max(
        (path.stat().st_mtime for name in MADE_OF for path in _files(ROOT / name)),
        default=0.0,
    )
    deb = _package()
    if deb is None or deb.stat().st_mtime < newest:
        command = ["sh", "-c", "./.ci/packages deb && ./.ci/deb"]
        environment = os.environ | {"DEB_BUILD_OPTIONS": "nocheck"}
        subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
        deb = _package()
    assert deb is not None, f"no package in {FOLDER}"
    return deb


def _package() -> Path | None:
    return max(FOLDER.glob("gatewayd_*_all.deb"), key=lambda path: path.stat().st_mtime, default=None)


def _files(path: Path) -> list[Path]:
    return (
        [path]
        if path.is_file()
        else [one for one in path.rglob("*") if one.suffix != ".pyc" and one.is_file()]
    )
