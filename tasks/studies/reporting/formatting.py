"""Labels and numbers as reports show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from embshare.tasks.studies.report import Row, Spread
from embshare.tasks.studies.reporting.significance import Comparison

__all__ = [
    "show_bytes",
    "show_change",
    "show_difference",
    "show_interval",
    "show_number",
    "show_p",
    "show_share",
    "show_spread",
    "shown",
]

LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {"lstm": "LSTM", "conv": "convolution", "eps": "EPS", "veps": "VEPS"}
)


def shown(label: str) -> str:
    """A label of an axis as people write it: ``method=veps tie=all`` as ``VEPS tie=all``."""
    first, space, rest = label.partition(" ")
    method = first.removeprefix("method=")
    return LABELS.get(method, method) + space + rest


def show_bytes(count: float) -> str:
    """A number of bytes with three digits: ``812 kB``, ``1.62 MB``."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(size) < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.95 else f"{size:.3g} {unit}"


def show_number(value: float, *, digits: int = 4, sign: bool = False) -> str:
    """A number with as many decimals as it needs for ``digits`` digits, leading zeros not among
    them."""
    return f"{value:{'+' * sign},.{_fine(value, digits)}f}"


def show_spread(spread: Spread, *, digits: int) -> str:
    """Mean and standard deviation, with the decimals of a mean of ``digits`` digits."""
    return _with_margin(spread.mean, spread.deviation, digits)


def show_interval(spread: Spread, *, digits: int = 4) -> str:
    """Mean and half the width of its 95 % interval, with as many decimals as the mean."""
    return _with_margin(spread.mean, spread.half_width, digits)


def show_change(row: Row, comparison: Comparison | None = None) -> str:
    """Change of the metric in percent of the baseline's, ``*`` if significant; empty without."""
    if row.change is None:
        return ""
    mark = "*" * (comparison is not None and comparison.significant)
    return f"{100 * row.change:+.1f} %{mark}"


def show_difference(comparison: Comparison | None) -> str:
    """Mean paired difference and half the width of its 95 % interval; empty without one."""
    if comparison is None or not comparison.pairs:
        return ""
    margin = comparison.half_width
    digits = 3 if margin is None else max(3, 2 + _places(comparison.difference, margin))
    text = show_number(comparison.difference, digits=digits, sign=True)
    if margin is None:
        return text
    return f"{text} ± {margin:,.{_fine(comparison.difference, digits)}f}"


def show_p(p: float | None) -> str:
    """A p-value with two digits, small ones as a bound; empty without one."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def show_share(share: float | None) -> str:
    """A part of the variance in percent; a dash where nothing varies."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _with_margin(mean: float, margin: float | None, digits: int) -> str:
    decimals = _decimals(mean, digits)
    text = f"{mean:,.{decimals}f}"
    return text if margin is None else f"{text} ± {margin:,.{decimals}f}"


def _decimals(value: float, digits: int) -> int:
    whole = len(str(int(abs(value)))) if abs(value) < 1e15 else digits
    return max(0, digits - whole)


def _fine(value: float, digits: int) -> int:
    if not 0 < abs(value) < 1:
        return _decimals(value, digits)
    return min(8, digits - 1 - math.floor(math.log10(abs(value))))


def _places(value: float, margin: float) -> int:
    """How many digits a number has before the first of its margin."""
    if not (math.isfinite(value) and math.isfinite(margin) and value and margin):
        return 1
    return min(6, max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(margin))))
