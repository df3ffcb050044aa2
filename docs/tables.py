"""Fills the tables in the documentation from result files.

    python docs/tables.py

A page says ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands between is written here.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
MARKED: Final = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAGES: Final = tuple(ROOT / "docs" / name for name in ("ablation.md", "speed.md"))


def benchmark(name: str) -> ModuleType:
    """A script under ``benchmarks/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quality(name: str) -> Callable[[], str]:
    """Perplexities of one file of ``benchmarks/quality.py``."""

    def draw() -> str:
        script = benchmark("quality")
        table: str = script.table(script.read([RESULTS / "quality" / f"{name}.json"]))
        return table

    return draw


def measured(name: str) -> Callable[[], str]:
    """The results of ``benchmarks/NAME.py``."""

    def draw() -> str:
        found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
        table: str = benchmark(name).table(found["results"])
        return table

    return draw


TABLES: Final[dict[str, Callable[[], str]]] = {
    "study": quality("study"),
    "long": quality("long"),
    "levers": quality("levers"),
    "speed": measured("speed"),
    "large": measured("large"),
}


def filled(text: str) -> str:
    """A page with its tables as the results say now."""
    return MARKED.sub(lambda hit: f"{hit[1]}\n{TABLES[hit[2]]()}\n\n{hit[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
