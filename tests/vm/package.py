"""The Debian package of this tree."""

from pathlib import Path

from vm.image import ROOT, quietly

FOLDERS = ("gatewayd", "debian", "systemd")
BUILT = ROOT / "build" / "deb"


def make() -> Path:
    """Return it; built when it is older than what it is made of. Its own tests are for `make deb`."""
    deb = _package()
    if deb is None or deb.stat().st_mtime < _newest():
        quietly(["sh", "-c", "./.ci/packages deb && ./.ci/deb"], DEB_BUILD_OPTIONS="nocheck")
        deb = _package()
    assert deb is not None, f"no package in {BUILT}"
    return deb


def _package() -> Path | None:
    return max(BUILT.glob("gatewayd_*_all.deb"), key=lambda path: path.stat().st_mtime, default=None)


def _newest() -> float:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    return max(path.stat().st_mtime for path in [ROOT / "pyproject.toml", *files] if path.is_file())
