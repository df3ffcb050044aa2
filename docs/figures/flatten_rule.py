"""Draw ``flatten_rule.svg``: which cells of a table the layers of the published example read.

The figure is no retelling of the rule: the library shares a model, each cell of whose table
holds its own number, and the derived weights tell which cells they came from.

    python docs/figures/flatten_rule.py
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import embshare

ROWS, COLUMNS = 10, 8
CELL = 28
LEFT, TOP = 30, 62
FILLS = ("#cfe3fb", "#fbdcc4")
DROPPED = "#f3f3f3"
SVG = Path(__file__).with_suffix(".svg")

Cells = dict[tuple[int, int], tuple[int, int]]  # (row, column) -> (layer, element of its block)


def example() -> nn.Module:
    """A table of 10 x 8 and two layers of 16 and of 25 weights."""
    model = nn.Sequential()
    model.add_module("table", nn.Embedding(ROWS, COLUMNS))
    model.add_module("first", nn.Linear(4, 4, bias=False))
    model.add_module("second", nn.Linear(5, 5, bias=False))
    return model


def read_cells(model: nn.Module) -> Cells:
    """Which element of which layer's block each cell of the table is, from the derived weights."""
    table = model.get_parameter("table.weight")
    with torch.no_grad():
        table.copy_(torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS))
    cells: Cells = {}
    for number, name in enumerate(("first", "second")):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        for element, cell in enumerate(weight.t().flatten().tolist()):  # a block is [in, out]
            cells[divmod(round(cell), COLUMNS)] = (number, element)
    return cells


def text(x: float, y: float, words: object, more: str = "") -> str:
    """One line of text, centred at ``x`` unless ``more`` says otherwise."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" {more}>{words}</text>'


def square(x: float, y: float, fill: str, label: object, more: str = "") -> str:
    """One cell with a number in it."""
    box = f'<rect x="{x:g}" y="{y:g}" width="{CELL}" height="{CELL}" fill="{fill}" stroke="#888"/>'
    return box + text(x + CELL / 2, y + CELL / 2 + 4, label, more)


def draw_table(cells: Cells, plan: embshare.SharePlan) -> Iterator[str]:
    """The table: cells that a layer reads carry the number of the weight that they are."""
    taken = {
        column: number
        for number, slot in enumerate(plan.slots)
        for column in range(slot.start, slot.start + slot.columns)
    }
    yield text(LEFT + COLUMNS * CELL / 2, 24, f"table, {ROWS} × {COLUMNS}", 'font-weight="bold"')
    for column in range(COLUMNS):
        x = LEFT + column * CELL
        yield text(x + CELL / 2, TOP - 8, column, 'fill="#777"')
        for row in range(ROWS):
            y = TOP + row * CELL
            if (row, column) in cells:
                number, element = cells[row, column]
                yield square(x, y, FILLS[number], element)
            elif column in taken:
                yield square(x, y, DROPPED, "×", f'fill="#b33" id="dropped-{row}-{column}"')
            else:
                yield square(x, y, "#ffffff", "")
    for row in range(ROWS):
        yield text(LEFT - 14, TOP + row * CELL + CELL / 2 + 4, row, 'fill="#777"')
    for number, slot in enumerate(plan.slots):
        x = LEFT + (slot.start + slot.columns / 2) * CELL
        y = TOP + ROWS * CELL
        yield text(x, y + 20, f"G = {slot.columns}")
        yield text(x, y + 38, f"δ = {slot.delta}", f'id="delta-{number}"')
    unused = COLUMNS - len(taken)
    yield text(LEFT + unused * CELL / 2, TOP + ROWS * CELL + 20, f"{unused} unused", 'fill="#777"')


def draw_blocks(plan: embshare.SharePlan) -> Iterator[str]:
    """The two blocks of weights, in the order in which they are read."""
    x = LEFT + (COLUMNS + 3) * CELL
    top = TOP
    for number, (name, slot) in enumerate(zip(("first", "second"), plan.slots, strict=True)):
        side = round(slot.numel**0.5)
        title = f"{name} layer: {slot.numel} weights"
        yield text(x, top - 8, title, 'font-weight="bold" style="text-anchor:start"')
        for element in range(slot.numel):
            row, column = divmod(element, side)
            yield square(x + column * CELL, top + row * CELL, FILLS[number], element)
        top += (side + 2) * CELL


def draw() -> str:
    """The whole figure as SVG."""
    model = example()
    plan = embshare.plan_sharing(model, embshare.ShareConfig(method="eps", gain="none"))
    cells = read_cells(embshare.share_from_embedding(model, plan))
    width, height = LEFT + (COLUMNS + 10) * CELL, TOP + (ROWS + 3) * CELL
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *draw_table(cells, plan),
        *draw_blocks(plan),
        text(
            LEFT,
            height - 10,
            "A number in the table says which weight of the layer the cell is; × is dropped.",
            'style="text-anchor:start" fill="#555"',
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    SVG.write_text(draw(), encoding="utf-8")
