"""The Debian package of this tree, for what is tried with it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("gatewayd", "debian", "systemd")
BUILT = ROOT / "build" / "deb"


def the_package() -> Path:
    """Return it; built when it is older than what it is made of. Its own tests are for `make deb`."""
    deb = _package()
    if deb is None or deb.stat().st_mtime < _newest():
        quietly(["sh", "-c", "./.ci/packages deb && ./.ci/deb"], DEB_BUILD_OPTIONS="nocheck")
        deb = _package()
    assert deb is not None, f"no package in {BUILT}"
    return deb


def page_of(deb: Path) -> Path:
    """Return the package of the page, which is built together with this one."""
    return deb.with_name(deb.name.replace("gatewayd_", "gatewayd-web_"))


def quietly(command: list[str], **environment: str) -> None:
    """Run a command at the project's root; what it says is of interest when it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}gatewayd: exit status {done.returncode} of {' '.join(command)}")


def _package() -> Path | None:
    return max(BUILT.glob("gatewayd_*_all.deb"), key=lambda path: path.stat().st_mtime, default=None)


def _newest() -> float:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    return max(path.stat().st_mtime for path in [ROOT / "pyproject.toml", *files] if path.is_file())
