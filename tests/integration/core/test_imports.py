"""``import embshare`` brings nothing but what the core depends on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

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
