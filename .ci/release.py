"""`make release`: everything a release consists of, into build/release. It never uploads, pushes or tags.

Without a version it builds the one in gatewayd/__init__.py. With one it first cuts that version: the number,
the section of CHANGELOG.md and the entry of debian/changelog, in one commit.
"""

import argparse
import datetime as dt
import email.utils
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = Path("gatewayd", "__init__.py")
CHANGELOG = Path("CHANGELOG.md")
DEBIAN_CHANGELOG = Path("debian", "changelog")
# The receiver's packages say the version themselves: the text, with its place.
DEVICE_VERSIONS = {
    Path("device", "rcp.h"): "".join(
        f"#define RCP_VERSION_{part} {{}}\n" for part in ("MAJOR", "MINOR", "PATCH")
    ),
    Path("device", "library.json"): '"version": "{}.{}.{}"',
    Path("device", "library.properties"): "version={}.{}.{}\n",
    Path("device", "idf_component.yml"): 'version: "{}.{}.{}"\n',
}
UNRELEASED = "## [Unreleased]\n"
CI = Path(__file__).resolve().parent
NEXT = """release: nothing was uploaded or signed. Next, with gpg's name of your key:
  .ci/sign {folder} KEY
  git tag --sign v{version} && git push origin v{version}
then upload {folder} as it is, CHANGES.md being the text of the release, and {folder}/apt
to a web server (CONTRIBUTING.md, "Releases")"""
# Reserved for examples: no address of a project ends so.
PLACEHOLDER = ".example"


class Refused(Exception):  # noqa: N818 - it is what happens
    """Why no release is made, and what to do."""


def main() -> int:
    """Return 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", nargs="?", help="cut this version first: 1.2.3")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to release")
    parser.add_argument(
        "--check", action="store_true", help="build nothing: say whether it could be released"
    )
    options = parser.parse_args()
    try:
        release(options.root, options.version, check=options.check)
    except Refused as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


def release(root: Path, version: str | None, *, check: bool) -> None:
    """Check, cut and build; raises Refused before anything is changed."""
    require_clean(root)
    if version is not None:
        cut(root, version)
    version = current_version(root)
    notes = section(root, version)
    require_same_version(root, version)
    print(f"release: {version}, with {len(notes.splitlines())} lines of changes")
    if PLACEHOLDER in " ".join(urls(root).values()):
        print("release: WARNING: project.urls in pyproject.toml are placeholders; put an address there")
    if not check:
        build(root, version, notes)


def require_clean(root: Path) -> None:
    """Raise Refused if the tree differs from its commit."""
    if changed := git(root, "status", "--porcelain"):
        raise Refused(f"the tree has changes that are not committed; commit or stash them:\n{changed}")


def current_version(root: Path) -> str:
    """Return the version, which stands in one place."""
    found = re.search(r'^__version__ = "(.+)"$', (root / VERSION).read_text(), re.MULTILINE)
    if found is None:
        raise Refused(f"{VERSION} has no __version__")
    return found[1]


def section(root: Path, version: str) -> str:
    """Return what CHANGELOG.md says of a version."""
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    found = re.search(heading, (root / CHANGELOG).read_text(), re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise Refused(
            f"{CHANGELOG} has no section '## [{version}] - DATE'; `make release VERSION={version}` makes it"
            " of what is under [Unreleased]"
        )
    return found[1].strip() + "\n"


def require_same_version(root: Path, version: str) -> None:
    """Raise Refused if the Debian package would have another version."""
    newest = (root / DEBIAN_CHANGELOG).read_text().splitlines()[0]
    if f"({version})" not in newest:
        raise Refused(f"{DEBIAN_CHANGELOG} begins with '{newest}'; expected version {version}")


def urls(root: Path) -> dict[str, str]:
    """Return the addresses of the project."""
    found: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    return found


def cut(root: Path, version: str) -> None:
    """Make a version of what is unreleased, in one commit."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Refused(f"{version!r} is no version; expected MAJOR.MINOR.PATCH")
    before = current_version(root)
    if numbers(version) < numbers(before):
        raise Refused(f"{version} is older than {before}, which is the version now")
    changes = (root / CHANGELOG).read_text()
    if f"## [{version}]" in changes:
        raise Refused(f"{CHANGELOG} has a section for {version} already; released versions do not change")
    _, heading, rest = changes.partition(UNRELEASED)
    if not heading or not re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0].strip():
        raise Refused(f"{CHANGELOG} has nothing under [Unreleased]; say there what users get")
    now = dt.datetime.now(dt.UTC)
    dated = f"{UNRELEASED}\n## [{version}] - {now:%Y-%m-%d}\n"
    (root / CHANGELOG).write_text(changes.replace(UNRELEASED, dated, 1))
    text = (root / VERSION).read_text()
    (root / VERSION).write_text(text.replace(f'__version__ = "{before}"', f'__version__ = "{version}"'))
    _cut_debian(root, version, now)
    _cut_device(root, before, version)
    git(
        root,
        "commit",
        "--quiet",
        "--message",
        f"Release {version}",
        str(CHANGELOG),
        str(VERSION),
        str(DEBIAN_CHANGELOG),
        *map(str, DEVICE_VERSIONS),
    )


def _cut_device(root: Path, before: str, version: str) -> None:
    for path, text in DEVICE_VERSIONS.items():
        old, new = (text.format(*numbers(each)) for each in (before, version))
        (root / path).write_text((root / path).read_text().replace(old, new))


def _cut_debian(root: Path, version: str, now: dt.datetime) -> None:
    text = (root / DEBIAN_CHANGELOG).read_text()
    maintainer = re.search(r"^ -- (.+>)  ", text, re.MULTILINE)
    if text.startswith(f"gatewayd ({version})") or maintainer is None:
        return
    entry = (
        f"gatewayd ({version}) trixie; urgency=medium\n\n"
        f"  * Version {version}. What is in it: /usr/share/doc/gatewayd/CHANGELOG.md.\n\n"
        f" -- {maintainer[1]}  {email.utils.format_datetime(now)}\n\n"
    )
    (root / DEBIAN_CHANGELOG).write_text(entry + text)


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as something that can be compared."""
    return tuple(map(int, re.findall(r"\d+", version)))


def build(root: Path, version: str, notes: str) -> None:
    """Build everything from the commit; the folder holds one release."""
    folder = root / "build" / "release"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    epoch = git(root, "log", "-1", "--format=%ct").strip()
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    python = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(root)]
    for command in (python, ["make", "-C", "device", "dist"], ["make", "deb"]):
        subprocess.run(command, check=True, env=environment, cwd=root)
    collect(root, version, folder)
    (folder / "CHANGES.md").write_text(notes)
    packages = sorted(folder.glob("*.deb"))
    subprocess.run([CI / "repository", folder / "apt", *packages], check=True, cwd=root)
    write_checksums(folder)
    print(f"release: {folder} has")
    for file in files_of(folder):
        print(f"  {file.relative_to(folder)}, {file.stat().st_size} bytes")
    print(NEXT.format(version=version, folder=folder.relative_to(root)))


def collect(root: Path, version: str, folder: Path) -> None:
    """Copy the Debian packages and the receiver's archives of a version. Raises Refused if one is missing."""
    for built, names in (
        (root / "build" / "deb", (f"gatewayd_{version}*", f"gatewayd-web_{version}*")),
        (root / "device" / "build" / "dist", (f"gatewayd-rcp*-{version}.*",)),
    ):
        for name in names:
            found = sorted(built.glob(name))
            if not found:
                raise Refused(f"{built} has no {name}")
            for file in found:
                shutil.copy(file, folder)


def files_of(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS as `sha256sum --check` reads it."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in files_of(folder)
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def git(root: Path, *words: str) -> str:
    """Run git in the tree, and return what it prints."""
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
