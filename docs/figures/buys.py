"""Draws what sharing buys: bytes on disk against perplexity, from the study of three architectures.

python docs/figures/buys.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
STUDY: Final = ROOT / "benchmarks" / "results" / "quality" / "study.json"
SVG: Final = Path(__file__).with_suffix(".svg")
SHARED: Final = "shared anchor=4.0 lr=0.016 hidden_lr=0.3"
COLOURS: Final = {
    "dense": "#555555",
    "narrower dense": "#b5651d",
    "tied": "#2a7f62",
    "shared": "#3949ab",
}
SHAPES: Final = ("lstm", "conv", "attention")
WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 46, 50
MIB: Final = (0.0, 11.0)
PERPLEXITY: Final = (125.0, 155.0)


def kind_of(record: dict[str, Any]) -> str | None:
    """Which of the four kinds of models a run belongs to; None for other settings."""
    setting = record["setting"]
    if setting["kind"] == "dense":
        return "dense" if setting["model_width"] == 192 else "narrower dense"
    if setting["kind"] == "tied":
        return "tied"
    return "shared" if record["label"] == SHARED else None


def points() -> list[tuple[str, str, float, float]]:
    """Kind, architecture, MiB in float32 and mean perplexity of the best setting of that kind."""
    runs: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in json.loads(STUDY.read_text(encoding="utf-8")):
        if kind := kind_of(record):
            key = (kind, record["architecture"], record["label"])
            runs.setdefault(key, []).append(record)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for (kind, architecture, _), found in runs.items():
        mean = statistics.fmean(run["perplexity"] for run in found)
        here = (mean, found[0]["stored"] * 4 / 2**20)
        best[kind, architecture] = min(best.get((kind, architecture), here), here)
    return [(kind, name, mib, mean) for (kind, name), (mean, mib) in best.items()]


def _x(mib: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (mib - MIB[0]) / (MIB[1] - MIB[0])


def _y(perplexity: float) -> float:
    part = (perplexity - PERPLEXITY[0]) / (PERPLEXITY[1] - PERPLEXITY[0])
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part


def _shape(architecture: str, x: float, y: float, colour: str) -> str:
    style = f'fill="{colour}" stroke="white"'
    if architecture == "lstm":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" {style}/>'
    if architecture == "conv":
        return f'<rect x="{x - 5.5:.1f}" y="{y - 5.5:.1f}" width="11" height="11" {style}/>'
    corners = f"{x:.1f},{y - 7:.1f} {x - 6.5:.1f},{y + 5:.1f} {x + 6.5:.1f},{y + 5:.1f}"
    return f'<polygon points="{corners}" {style}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{text}</text>'


def draw() -> str:
    """The figure."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for mib in range(0, 12, 2):
        lines.append(_text(_x(mib), HEIGHT - BOTTOM + 18, str(mib)))
        lines.append(f'<path d="M{_x(mib):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eeeeee"/>')
    for perplexity in range(125, 156, 5):
        lines.append(_text(LEFT - 8, _y(perplexity) + 4, str(perplexity), anchor="end"))
        lines.append(f'<path d="M{LEFT} {_y(perplexity):.1f}H{WIDTH - RIGHT}" stroke="#eeeeee"/>')
    lines.append(_text((LEFT + WIDTH) / 2, HEIGHT - 12, "MiB on disk (float32)"))
    turned = f'transform="rotate(-90 16 {HEIGHT / 2})"'
    lines.append(_text(16, HEIGHT / 2, "perplexity (lower is better)", more=turned))
    for number, (kind, colour) in enumerate(COLOURS.items()):
        x = (68, 138, 262, 322)[number]
        lines.append(f'<rect x="{x}" y="15" width="11" height="11" fill="{colour}"/>')
        lines.append(_text(x + 16, 25, kind, anchor="start"))
    for number, name in enumerate(SHAPES):
        x = 430 + 62 * number
        lines.append(_shape(name, x, 21, "#999999"))
        lines.append(_text(x + 10, 25, name, anchor="start"))
    for kind, name, mib, perplexity in points():
        lines.append(_shape(name, _x(mib), _y(perplexity), COLOURS[kind]))
    return "\n".join([*lines, "</svg>\n"])


if __name__ == "__main__":
    SVG.write_text(draw(), encoding="utf-8")
