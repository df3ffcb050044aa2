"""Arrows between modules go one way: type-only imports and those inside of functions included."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"embshare": ROOT / "embshare"} | {
    f"embshare.{name}": ROOT / name for name in ("adapters", "tasks")
}
LEVELS = (
    ("ops",),
    ("plan",),
    ("blocks",),
    ("runtime",),
    ("start", "report"),
    ("verbs",),
    ("models",),
    ("adapters", "tasks"),
    ("cli",),
)
"""Packages from the lowest on; those of one level do not import each other."""
BASE = frozenset(
    "_keys _tables _value _version _warnings config errors integrations structure wrapping".split()
)
"""Modules beside the verbs that every package may import: they import one another alone."""


@functools.cache
def modules() -> dict[str, Path]:
    """Every module by its name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder)
            if package == "embshare" and relative.parts[0] in ("adapters", "tasks"):
                continue  # links
            parts = [package, *relative.with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def arrows() -> dict[str, frozenset[str]]:
    """The modules that each module imports, anywhere in it."""
    return {name: frozenset(_imported(name, path)) for name, path in modules().items()}


def _imported(name: str, path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [t if t in modules() else str(node.module) for t in inside]
        yield from (t for t in targets if t in modules() and t != name)


def circles(graph: dict[str, frozenset[str]]) -> list[set[str]]:
    """Groups of nodes that reach each other."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(m for m in graph if m in reach[n] and n in reach[m]) for n in graph}
    return [set(group) for group in groups if group]


def _reached(graph: dict[str, frozenset[str]], start: str) -> set[str]:
    found, ahead = set[str](), [*graph[start]]
    while ahead:
        if (node := ahead.pop()) not in found:
            found.add(node)
            ahead += graph[node]
    return found


def package_of(module: str) -> str:
    """The package of `LEVELS` that a module belongs to; ``base`` for what all may import."""
    parts = module.split(".")
    first = parts[1] if len(parts) > 1 else ""
    if first in BASE:
        return "base"
    if first == "__main__":
        return "cli"
    if first in ("checks", "check"):
        return "verbs"
    return first if any(first in level for level in LEVELS) else "verbs"


def test_circles_are_found() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b"), "d": frozenset("d")}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d"]]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert len(modules()) > 200
    assert circles(arrows()) == []


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=["+".join(level) for level in LEVELS])
def test_no_package_imports_one_above_it(level: int) -> None:
    above = {name for names in LEVELS[level + 1 :] for name in names}
    for name, targets in arrows().items():
        own = package_of(name)
        if own in LEVELS[level]:
            beside = set(LEVELS[level]) - {own}
            wrong = {t for t in targets if package_of(t) in above | beside}
            assert not wrong, f"{name} imports {sorted(wrong)}"


def test_what_all_may_import_imports_nothing_else() -> None:
    for name, targets in arrows().items():
        if package_of(name) == "base":
            assert {package_of(t) for t in targets} <= {"base"}, name


def test_tensor_functions_know_tensors_alone() -> None:
    for name, targets in arrows().items():
        if package_of(name) == "ops":
            assert {package_of(t) for t in targets} <= {"ops"}, name
