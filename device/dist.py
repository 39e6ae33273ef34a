#!/usr/bin/env python3
"""`make -C device dist`: the receiver in the forms that vendors take in, from the one source in this folder.

Each is a folder and an archive of it in build/dist. The same tree gives the same bytes.
"""

import gzip
import io
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIST = HERE / "build" / "dist"
RECEIVER = ("rcp.h", "rcp.c", "rcp_sha256.h", "rcp_sha256.c")
PAGES = ("README.md", "docs")
SLOTS = ("ports/esp-idf/main/slots.c", "ports/esp-idf/main/slots.h", "ports/esp-idf/partitions.csv")
# The sketch and what it has in common with the port to ESP-IDF.
SKETCH = {"ports/arduino/Receiver/Receiver.ino": "examples/Receiver/Receiver.ino"} | {
    path: f"examples/Receiver/{Path(path).name}" for path in SLOTS
}
# Versions of packages stand in files of their own; `make release` keeps them equal.
VERSIONS = {
    "library.json": r'"version": "([\d.]+)"',
    "library.properties": r"^version=([\d.]+)$",
    "idf_component.yml": r'^version: "([\d.]+)"$',
}


def _same(*paths: str) -> dict[str, str]:
    return {path: path for path in paths}


# The archive's name without version -> its folder, and what is where in it (folders whole).
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "gatewayd-rcp.tar.gz": (
        "gatewayd-rcp",
        _same(*RECEIVER, *PAGES, *VERSIONS, "CMakeLists.txt", "Kconfig", "zephyr", "ports"),
    ),
    "gatewayd-rcp-arduino.zip": (
        "gatewayd-rcp",
        {path: f"src/{path}" for path in RECEIVER} | _same("library.properties", *PAGES) | SKETCH,
    ),
    "gatewayd-rcp-platformio.tar.gz": ("gatewayd-rcp", _same(*RECEIVER, "library.json", *PAGES) | SKETCH),
    "gatewayd-rcp-zephyr.tar.gz": ("rcp", _same(*RECEIVER, *PAGES, "zephyr", "ports/zephyr")),
    "gatewayd-rcp-esp-idf.tar.gz": (
        "rcp",
        _same(*RECEIVER, *PAGES, "CMakeLists.txt", "Kconfig", "idf_component.yml", "ports/esp-idf"),
    ),
}


def main() -> int:
    """Make all of them; returns 1 where a package has another version than rcp.h."""
    version = version_of_header()
    for name, pattern in VERSIONS.items():
        found = re.search(pattern, (HERE / name).read_text(), re.MULTILINE)
        if found is None or found[1] != version:
            print(f"{name} is of version {found and found[1]}, rcp.h of {version}", file=sys.stderr)
            return 1
    shutil.rmtree(DIST, ignore_errors=True)
    for name, (folder, places) in FORMS.items():
        stem, suffix = name.split(".", 1)
        archive = DIST / f"{stem}-{version}.{suffix}"
        files = dict(sorted(_files(places)))
        _lay_out(DIST / stem / folder, files)
        pack = _zip if suffix == "zip" else _tar
        archive.write_bytes(pack({f"{folder}/{path}": data for path, data in files.items()}))
        print(f"{archive.relative_to(HERE)}  {len(files)} files, {archive.stat().st_size} bytes")
    return 0


def version_of_header() -> str:
    """Return what rcp.h says."""
    numbers = re.findall(
        r"^#define RCP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", (HERE / "rcp.h").read_text(), re.MULTILINE
    )
    return ".".join(numbers)


def _files(places: dict[str, str]) -> list[tuple[str, bytes]]:
    found = [("LICENSE", (HERE.parent / "LICENSE").read_bytes())]
    for source, target in places.items():
        path = HERE / source
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            (str(Path(target) / file.relative_to(path)) if path.is_dir() else target, file.read_bytes())
            for file in inside
            if file.is_file() and "build" not in file.relative_to(HERE).parts
        ]
    return found


def _lay_out(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def _tar(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(made.getvalue(), mtime=0)


def _zip(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


if __name__ == "__main__":
    sys.exit(main())
