"""The legend of a plan's figure: roles, their colours, and one line of numbers for each."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from embshare.plan.printing import abbreviate
from embshare.plan.slots import Slot
from embshare.plan.tying import pattern_of
from embshare.plan.values import SharePlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DROPPED",
    "GREY",
    "MARGIN",
    "UNUSED",
    "WIDTH",
    "Role",
    "draw_legend",
    "legend_height",
    "roles_of",
]

MARGIN, WIDTH = 0.45, 12.0
LINE, TOP = 0.22, 0.5
MOST_ROLES = 36
GREY: Final = "#555555"
UNUSED: Final[Mapping[str, object]] = MappingProxyType(
    {"facecolor": "#e6e6e6", "edgecolor": "#bbbbbb", "hatch": "xx", "linewidth": 0}
)
DROPPED: Final[Mapping[str, object]] = MappingProxyType(
    {"facecolor": "white", "edgecolor": "#c06060", "hatch": "////", "linewidth": 0}
)


@dataclass(frozen=True, kw_only=True)
class Role:
    """Slots whose readers differ only in the indices of repeated blocks: one colour, one line."""

    key: str
    """Label of a slot that is too narrow for a name."""
    names: tuple[str, ...]
    """Names of the weights, abbreviated."""
    short: str
    """The last parts of the first name, as many as tell it from other roles."""
    slots: tuple[Slot, ...]
    colour: str

    @property
    def readers(self) -> int:
        """Weights that read one of the role's slots."""
        return sum(len(slot.weights) for slot in self.slots)


def roles_of(plan: SharePlan) -> tuple[Role, ...]:
    """The plan's slots by role, in plan order."""
    groups: dict[object, list[Slot]] = {}
    counts = Counter(map(pattern_of, plan.weights()))
    for slot in plan.slots:
        patterns = tuple(dict.fromkeys(map(pattern_of, slot.weights)))
        groups.setdefault((slot.source, patterns, slot.shape, slot.transposed), []).append(slot)
    names = [
        tuple(abbreviate((name for slot in slots for name in slot.weights), counts))
        for slots in groups.values()
    ]
    shorts = _shorten([of_role[0].partition(" (")[0] for of_role in names])
    return tuple(
        Role(
            key=_key(number),
            names=names[number],
            short=shorts[number],
            slots=tuple(slots),
            colour=_colour(number),
        )
        for number, slots in enumerate(groups.values())
    )


def _key(number: int) -> str:
    """a, b, … z, aa, ab, …"""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _colour(number: int) -> str:
    """Light enough to write on; steps of the golden ratio keep neighbours apart."""
    hue = (0.58 + number * 0.61803398875) % 1
    rgb = colorsys.hsv_to_rgb(hue, (0.38, 0.28, 0.42)[number % 3], (0.95, 0.87, 0.99)[number % 3])
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _shorten(names: Sequence[str]) -> list[str]:
    """Each name's shortest ending that no other one has, without a last ``weight``."""
    split = [name.removesuffix(".weight").split(".") for name in names]
    return [
        ".".join(parts[-_needed(parts, [p for p in split if p is not parts]) :]) for parts in split
    ]


def _needed(parts: list[str], others: list[list[str]]) -> int:
    """How many last parts tell a name from all others."""
    for length in range(1, len(parts)):
        same = any(other[-length:] == parts[-length:] for other in others)
        if not same and parts[-length][0] not in "*{":
            return length
    return len(parts)


def legend_height(roles: Sequence[Role]) -> float:
    """Inches that `draw_legend` needs."""
    shown = min(len(roles), MOST_ROLES)
    return TOP + LINE * (shown + 2 + (len(roles) > shown))


def draw_legend(axes: Axes, plan: SharePlan, roles: Sequence[Role], top: float) -> None:
    """One line for each role, in inches from the lower left corner of the figure."""
    from matplotlib.patches import Rectangle

    y = top - TOP + LINE
    sizes = ("G", "delta") if plan.config.reads_table else ("stored", "")
    _write_line(axes, y, ("", "weights", "shape", *sizes, "slots", "reuse"), GREY)
    for role in roles[:MOST_ROLES]:
        y -= LINE
        box = Rectangle((MARGIN, y - 0.075), 0.3, 0.15, facecolor=role.colour, linewidth=0)
        axes.add_patch(box)
        cells = _line(role)
        _write_line(axes, y, cells if sizes[1] else (*cells[:4], "", *cells[5:]), "black")
    if len(roles) > MOST_ROLES:
        y -= LINE
        more = f"and {len(roles) - MOST_ROLES} more roles: print the plan to see them all"
        _write_line(axes, y, ("", more), GREY)
    y -= LINE * 1.3
    x = MARGIN
    if any(slot.delta for slot in plan.slots):
        box = Rectangle((x, y - 0.075), 0.3, 0.15, **DROPPED)  # type: ignore[arg-type]
        axes.add_patch(box)
        axes.text(x + 0.4, y, "delta: dropped elements of a slot", fontsize=8, va="center")
        x += 3.2
    if any(plan.unused_columns(index) for index in range(len(plan.sources))):
        axes.add_patch(Rectangle((x, y - 0.075), 0.3, 0.15, **UNUSED))  # type: ignore[arg-type]
        axes.text(x + 0.4, y, "columns that nothing reads", fontsize=8, va="center")


def _line(role: Role) -> tuple[str, ...]:
    slot = role.slots[0]
    reuse = sorted({len(s.weights) for s in role.slots})
    more = f" and {len(role.names) - 1} more" if len(role.names) > 1 else ""
    return (
        role.key,
        _cut(role.names[0], 84) + more,
        " × ".join(map(str, slot.shape)),
        f"{slot.columns:,}",
        f"{slot.delta:,}",
        f"{len(role.slots):,}",
        ", ".join(f"×{number}" for number in reuse),
    )


def _cut(name: str, length: int) -> str:
    """A name's end, which tells most."""
    return name if len(name) <= length else "…" + name[1 - length :]


def _write_line(axes: Axes, y: float, cells: Sequence[str], colour: str) -> None:
    places = (MARGIN + 0.15, MARGIN + 0.4, 8.3, 9.2, 10.0, 10.7, WIDTH - MARGIN)
    aligned = ("center", "left", "right", "right", "right", "right", "right")
    for cell, x, side in zip(cells, places, aligned, strict=False):
        axes.text(x, y, cell, fontsize=8, va="center", ha=side, color=colour)
