"""Figures in the documentation are what their scripts draw, from what the library does."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def script(name: str) -> ModuleType:
    """A figure's script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "figures" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_flatten_rule_is_drawn_as_the_library_applies_it() -> None:
    flatten_rule = script("flatten_rule")
    drawn = flatten_rule.draw()
    assert drawn == flatten_rule.SVG.read_text(encoding="utf-8"), (
        "run docs/figures/flatten_rule.py again"
    )


def test_the_flatten_rule_shows_the_published_numbers() -> None:
    drawn = script("flatten_rule").SVG.read_text(encoding="utf-8")
    assert re.findall(r">(G = \d+)<", drawn) == ["G = 2", "G = 3"]
    assert re.findall(r">(δ = \d+)<", drawn) == ["δ = 4", "δ = 5"]
    dropped = re.findall(r'id="dropped-(\d+)-(\d+)"', drawn)
    # 16 weights in two columns end with row 7; 25 in three end within row 8.
    first = {(8, 6), (8, 7), (9, 6), (9, 7)}
    second = {(8, 4), (8, 5), (9, 3), (9, 4), (9, 5)}
    assert {(int(row), int(column)) for row, column in dropped} == first | second


def test_what_sharing_buys_is_drawn_from_the_study() -> None:
    buys = script("buys")
    assert buys.draw() == buys.SVG.read_text(encoding="utf-8"), "run docs/figures/buys.py again"
    kinds = {(kind, name) for kind, name, _, _ in buys.points()}
    assert kinds == {(kind, name) for kind in buys.COLOURS for name in buys.SHAPES}


def test_the_figure_of_a_report_is_the_one_that_reports_have() -> None:
    report = script("report")
    now, saved = report.draw(), report.SVG.read_text(encoding="utf-8")
    ends = re.compile(r'<use [^>]*y="([\d.]+)"')
    assert len(ends.findall(now)) == len(ends.findall(saved)) > 9
    version = re.compile(r"Matplotlib v[\d.]+")
    if version.findall(now) == version.findall(saved):  # another one may place a text elsewhere
        assert now == saved, "run docs/figures/report.py again"
