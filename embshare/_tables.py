"""Tables of plain values for people to read, rendered by rich."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["WIDTH", "new_table", "plural", "render", "shape_text"]

WIDTH = 120
"""Characters of a rendered line, wherever it is shown: output is the same in a pipe and a test."""


def render(renderable: RenderableType) -> str:
    """Plain text, `WIDTH` characters wide at most, without colours or trailing blanks."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=WIDTH,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,  # in a notebook rich would display the text in place of writing it
        legacy_windows=False,
    )
    console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def new_table(
    *headings: str, title: str = "", caption: str = "", right: Iterable[int] = ()
) -> Table:
    """A table of plain text: names may hold brackets, which are no markup."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        caption=Text(f"{caption}\n") if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        highlight=False,
    )
    numbers = set(right)
    for index, heading in enumerate(headings):
        justify = "right" if index in numbers else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def plural(number: int, noun: str) -> str:
    """``1 weight``, ``2 weights``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shape_text(shape: tuple[int, ...]) -> str:
    """``32 × 64``."""
    return " × ".join(map(str, shape))
