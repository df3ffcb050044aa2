"""Arrows go one way: ``cli -> {adapters, tasks} -> models -> core``, read from the imports."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "cli": {"cli", "adapters", "tasks", "models", "core"},
    "adapters": {"adapters", "models", "core"},
    "tasks": {"tasks", "models", "core"},
    "models": {"models", "core"},
    "core": {"core"},
}

# Prints every imported module that neither Python nor the core's own dependencies bring.
FOREIGN = """
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
import {modules}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


owners = packages_distributions()
brought, todo = set(), ["embshare"]
while todo:
    name = canonical(todo.pop())
    if name in brought:
        continue
    brought.add(name)
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        continue
    todo += [re.match(r"[A-Za-z0-9_.-]+", line)[0] for line in lines if "extra ==" not in line]
tops = {{name.partition(".")[0] for name in sys.modules}}
owned = {{top: set(map(canonical, owners[top])) for top in tops & set(owners)}}
print(sorted(top for top, by in owned.items() if not by & brought))
"""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the three folders by its real name, with its file."""
    for folder in ("embshare", "adapters", "tasks"):
        for here, _, files in os.walk(ROOT / folder):  # does not follow the two links
            for file in sorted(files):
                if file.endswith(".py"):
                    path = Path(here, file)
                    parts = list(path.relative_to(ROOT).with_suffix("").parts)
                    parts = parts if folder == "embshare" else ["embshare", *parts]
                    if parts[-1] == "__init__":
                        parts.pop()
                    yield ".".join(parts), path


def layer(module: str) -> str:
    """Which of the five layers a module belongs to; what has no folder of its own is core."""
    parts = module.split(".")
    part = parts[1] if len(parts) > 1 else ""
    if part == "__main__":
        return "cli"
    return part if part in ALLOWED else "core"


def imported(source: str) -> Iterator[str]:
    """Our own modules that a source imports: statements, and strings that name a module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0, names=names):
                found = [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom():
                raise AssertionError("imports are absolute")
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(str(name))]):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if name.split(".")[0] == "embshare")


def wrong_arrows(module: str, source: str) -> list[str]:
    """The imports of a module that point the wrong way."""
    here = layer(module)
    return [
        f"{module} ({here}) imports {name} ({layer(name)})"
        for name in imported(source)
        if layer(name) not in ALLOWED[here]
    ]


def test_arrows_go_one_way() -> None:
    found = [line for name, path in modules() for line in wrong_arrows(name, path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("embshare.plan.values", "from embshare.models import matched", 1),
        ("embshare.plan.values", "from embshare import models", 1),
        ("embshare.plan.values", "def f():\n    import embshare.cli.main", 1),
        ("embshare.plan.values", "import importlib\nimportlib.import_module('embshare.tasks')", 1),
        ("embshare.models.matched", "from embshare.tasks.studies import run_study", 1),
        ("embshare.adapters.huggingface", "from embshare.tasks import glue", 1),
        ("embshare.tasks.glue", "import embshare.adapters", 1),
        ("embshare.tasks.glue", "from embshare.cli import main", 1),
        ("embshare.tasks.glue", "from embshare.models import matched\nimport embshare", 0),
        ("embshare.cli", "from embshare.tasks import glue\nfrom embshare.adapters import timm", 0),
    ],
)
def test_a_wrong_arrow_would_be_seen(module: str, source: str, wrong: int) -> None:
    assert len(wrong_arrows(module, source)) == wrong


def foreign(modules: str) -> set[str]:
    """Import modules in a fresh process; what came with them that the core does not depend on."""
    code = FOREIGN.format(modules=modules)
    out = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT / "tests")
    return set(ast.literal_eval(out))


@pytest.fixture(scope="module")
def brought_along() -> set[str]:
    """What the core's dependencies take along where it is installed, as torch does numpy."""
    return foreign("torch, safetensors.torch, pydantic, typer, rich")


@pytest.mark.parametrize("module", ["embshare", "embshare.cli"])
def test_importing_it_brings_nothing_optional(module: str, brought_along: set[str]) -> None:
    assert foreign(module) - brought_along == set()


def test_an_optional_import_would_be_seen(brought_along: set[str]) -> None:
    assert "matplotlib" in foreign("embshare, matplotlib") - brought_along
