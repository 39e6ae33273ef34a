"""What the imports of a package say: floors, arrows, and what no contract speaks of."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp

Arrows = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Structure:
    """Modules and what each imports directly, within the package."""

    package: str
    arrows: Arrows

    @property
    def rooms(self) -> Arrows:
        """The same between rooms: a room is a folder of the package, or a module that lies beside them."""
        rooms: dict[str, set[str]] = {}
        for module, imported in self.arrows.items():
            rooms.setdefault(self._room(module), set()).update(map(self._room, imported))
        return {room: frozenset(others - {room, self.package}) for room, others in rooms.items()}

    def within(self, room: str) -> Arrows:
        """The arrows inside of a room."""
        inside = {module for module in self.arrows if self._room(module) == room}
        return {module: self.arrows[module] & inside for module in inside}

    def _room(self, module: str) -> str:
        return ".".join(module.split(".")[:2])


@contextmanager
def _found_first(tree: Path) -> Iterator[None]:
    sys.path.insert(0, str(tree))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(tree))
        importlib.invalidate_caches()


def imports_of(tree: Path, package: str) -> Structure:
    """Read the imports of a package that lies in `tree`; nothing of it may have been imported here before."""
    with _found_first(tree):
        graph = grimp.build_graph(package, cache_dir=None)
    return Structure(
        package,
        {name: frozenset(graph.find_modules_directly_imported_by(name)) for name in graph.modules},
    )


def count(arrows: Arrows) -> int:
    """How many arrows there are."""
    return sum(len(imported) for imported in arrows.values())


def floors(arrows: Arrows) -> int:
    """How many modules stand on each other at most; those that import each other in a circle are one."""
    circle_of = {module: circle for circle in circles(arrows) for module in circle}
    below = {
        circle: {circle_of[other] for module in circle for other in arrows[module]} - {circle}
        for circle in set(circle_of.values())
    }
    height: dict[frozenset[str], int] = {}
    for circle in TopologicalSorter(below).static_order():
        height[circle] = 1 + max((height[other] for other in below[circle]), default=0)
    return max(height.values(), default=0)


def circles(arrows: Arrows) -> list[frozenset[str]]:
    """Group modules that reach each other; most are alone."""
    reached = {module: _reached_from(module, arrows) for module in arrows}
    return list({frozenset(one for one in reached[module] if module in reached[one]) for module in arrows})


def _reached_from(module: str, arrows: Arrows) -> set[str]:
    found, new = set[str](), {module}
    while new:
        found |= new
        new = {other for one in new for other in arrows[one]} - found
    return found


def outside_contracts(structure: Structure, pyproject: Path) -> list[str]:
    """Return the modules that no contract of import-linter names, nor a package above them."""
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {}).get("importlinter", {})
    named = {name for contract in settings.get("contracts", ()) for name in _named(contract)}
    return sorted(
        module
        for module in structure.arrows
        if module != structure.package and not any(above in named for above in _and_above(module))
    )


def _named(contract: Mapping[str, Any]) -> Iterator[str]:
    yield from contract.get("source_modules", ())
    yield from contract.get("modules", ())
    for layer in _split(contract.get("layers", ())):
        yield from (f"{container}.{layer}" for container in contract.get("containers", ()))
        yield layer


def _split(layers: Iterable[str]) -> Iterator[str]:
    for layer in layers:
        yield from (name.strip(" ()") for name in re.split(r"[|:]", layer))


def _and_above(module: str) -> Iterator[str]:
    while module:
        yield module
        module = module.rpartition(".")[0]
