"""Arrows between modules go one way: type-only imports and those inside of functions included."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    return {name: frozenset(_imported(name, path.read_text())) for name, path in modules().items()}


def _imported(name: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                inside = [f"{module}.{alias.name}" for alias in names]
                targets = [t if t in modules() else module for t in inside]
            case ast.ImportFrom():
                raise AssertionError(f"{name} imports relatively")
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(str(place))]
            ):
                targets = [place]
            case _:
                continue
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


def wrong_arrows(name: str, targets: Iterable[str]) -> list[str]:
    """The imports of a module that are of a package above its own, or beside it."""
    own = package_of(name)
    level = next((number for number, level in enumerate(LEVELS) if own in level), len(LEVELS))
    forbidden = {other for names in LEVELS[level:] for other in names} - {own}
    return [f"{name} imports {t}" for t in sorted(targets) if package_of(t) in forbidden]


def test_no_package_imports_one_above_it() -> None:
    assert [line for arrow in arrows().items() for line in wrong_arrows(*arrow)] == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("embshare.plan.values", "from embshare.models import matched", 1),
        ("embshare.plan.values", "def f():\n    import embshare.cli.application", 1),
        ("embshare.plan.values", "import importlib\nimportlib.import_module('embshare.tasks')", 1),
        ("embshare.models.matched", "from embshare.tasks.catalogue import TASKS", 1),
        ("embshare.adapters.huggingface", "from embshare.tasks import glue", 1),
        ("embshare.tasks.glue", "import embshare.adapters", 1),
        ("embshare.tasks.glue", "from embshare.cli import application", 1),
        ("embshare.tasks.glue", "from embshare.models import matched\nimport embshare", 0),
        (
            "embshare.cli",
            "from embshare.tasks import glue\nfrom embshare.adapters import vision",
            0,
        ),
    ],
)
def test_a_wrong_arrow_would_be_seen(module: str, source: str, wrong: int) -> None:
    assert len(wrong_arrows(module, _imported(module, source))) == wrong


def test_what_all_may_import_imports_nothing_else() -> None:
    for name, targets in arrows().items():
        if package_of(name) == "base":
            assert {package_of(t) for t in targets} <= {"base"}, name


def test_tensor_functions_know_tensors_alone() -> None:
    for name, targets in arrows().items():
        if package_of(name) == "ops":
            assert {package_of(t) for t in targets} <= {"ops"}, name
