"""`make figures`: how the code is built, in figures; of this tree, and of others beside it.

A tree is a folder, or a commit of this repository: `make figures TREES="v0.2.0 ."`.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from lab.tree import ROOT
from rich.console import Console
from rich.table import Table

from suites.figures import source, structure

PACKAGE = "gatewayd"
Figures = dict[str, str | int]


def measure(tree: Path) -> Figures:
    """Return the figures of a tree, each under the name that it is printed with."""
    text = source.read(tree / PACKAGE)
    compared = source.compared_codes(text, source.documented_codes(tree / "docs" / "codes.md"))
    functions = text.functions
    tests = [path for path in (tree / "tests").rglob("*.py") if "vectors" not in path.parts]
    return {
        "files": len(text.files),
        "lines": sum(file.lines for file in text.files),
        "longest file": str(max(text.files)),
        f"files over {source.LONG_FILE} lines": sum(file.lines > source.LONG_FILE for file in text.files),
        "functions": len(functions),
        "longest function": str(max(functions)),
        f"functions over {source.LONG_FUNCTION} lines": sum(
            one.lines > source.LONG_FUNCTION for one in functions
        ),
        **_of_imports(tree),
        f"codes compared outside {source.TABLE}": len(compared),
        "files of tests": len(tests),
        "files of tests at the top": len(list((tree / "tests").glob("*.py"))),
    }


def _of_imports(tree: Path) -> Figures:
    found = structure.imports_of(tree, PACKAGE)
    rooms = found.rooms
    highest = max(rooms, key=lambda room: structure.floors(found.within(room)))
    circles = [circle for circle in structure.circles(found.arrows) if len(circle) > 1]
    room_circles = [circle for circle in structure.circles(rooms) if len(circle) > 1]
    return {
        "floors": structure.floors(found.arrows),
        "floors in one room": f"{structure.floors(found.within(highest))} ({highest})",
        "arrows between modules": structure.count(found.arrows),
        "rooms": len(rooms),
        "arrows between rooms": structure.count(rooms),
        "modules in circles": sum(map(len, circles)),
        "rooms in circles": sum(map(len, room_circles)),
        "modules outside the contracts": len(structure.outside_contracts(found, tree / "pyproject.toml")),
    }


def print_where(tree: Path) -> None:
    """Print each place behind the two figures that should be 0."""
    codes = source.documented_codes(tree / "docs" / "codes.md")
    for place in source.compared_codes(source.read(tree / PACKAGE), codes):
        click.echo(f"{PACKAGE}/{place}")
    found = structure.imports_of(tree, PACKAGE)
    for module in structure.outside_contracts(found, tree / "pyproject.toml"):
        click.echo(f"{module} is in no contract")


@contextmanager
def folder_of(tree: str) -> Iterator[Path]:
    """Give the folder of that name, or one that holds what the commit of that name holds."""
    if Path(tree).is_dir():
        yield Path(tree).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        command = ["git", "-C", str(ROOT), "archive", "--format=tar", tree]
        archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder)


@click.command()
@click.argument("trees", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: a tree, and its figures.")
@click.option("--where", is_flag=True, help="Print each code and module that counts, instead.")
def main(trees: tuple[str, ...], *, as_json: bool, where: bool) -> None:
    """Print figures of trees: folders, or commits of this repository; of this tree if none is given."""
    measured: dict[str, Figures] = {}
    for tree in trees or (str(ROOT),):
        with folder_of(tree) as folder:
            if where:
                print_where(folder)
            else:
                measured[tree if trees else "this tree"] = measure(folder)
    if as_json:
        click.echo(json.dumps(measured, indent=2))
    elif measured:
        _print(measured)


def _print(measured: dict[str, Figures]) -> None:
    table = Table("", *measured, box=None)
    for name in next(iter(measured.values())):
        table.add_row(name, *(str(figures[name]) for figures in measured.values()))
    Console(width=40 + 60 * len(measured)).print(table)


if __name__ == "__main__":
    main()
