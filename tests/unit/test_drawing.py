"""The figure of a plan: what is drawn where, and the same bytes every time."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from embshare import ShareConfig, SharePlan, plan_sharing
from embshare.errors import CheckpointError, InvalidValueError, MissingPackageError
from embshare.report.drawing import FORMATS, draw_plan, make_figure
from embshare.report.legend import roles_of

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Example(nn.Module):
    """Figure 1 of the paper: a table of 10 x 8, layers of 16 and of 25 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(5, 5, bias=False)


def example(order: str = "row") -> SharePlan:
    return plan_sharing(Example(), ShareConfig(method="eps", gain="none", order=order))  # type: ignore[arg-type]


def stack(layers: int, tie: str, width: int | None = None) -> SharePlan:
    model = nn.ModuleDict({"table": nn.Embedding(100, 16)})
    blocks = [
        nn.ModuleDict({"up": nn.Linear(16, 32), "down": nn.Linear(32, 16)}) for _ in range(layers)
    ]
    model["blocks"] = nn.ModuleList(blocks)
    return plan_sharing(model, ShareConfig(tie=tie, width=width, gain="none"))


def words(figure: Figure) -> list[str]:
    """Every text of a figure."""
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def strips(figure: Figure) -> list[Any]:
    """The axes that show columns; the last one is the legend."""
    return figure.axes[:-1]


def area(corners: list[list[float]]) -> float:
    """Area of a closed polygon, by the shoelace formula."""
    pairs = itertools.pairwise(corners)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_plan_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    draw_plan(example(), one)
    torch.rand(1)
    draw_plan(example(), str(two))
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size > 1_000


def test_settings_of_the_caller_neither_matter_nor_are_changed(tmp_path: Path) -> None:
    import matplotlib

    draw_plan(example(), tmp_path / "one.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        draw_plan(example(), tmp_path / "two.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_slot_is_drawn_where_its_columns_are() -> None:
    plan = example()
    (strip,) = strips(make_figure(plan))
    assert strip.get_xlim() == (0, 8)
    assert strip.get_ylim() == (10, 0)
    colours = {role.colour: role.slots[0] for role in roles_of(plan)}
    boxes = [p for p in strip.patches if isinstance(p, Rectangle)]
    drawn = {
        (box.get_x(), box.get_width())
        for box in boxes
        if to_hex(box.get_facecolor()) in colours and box.get_fill()
    }
    assert drawn == {(slot.start, slot.columns) for slot in plan.slots} == {(6, 2), (3, 3)}


@pytest.mark.parametrize("order", ["row", "column"])
def test_the_hatched_area_is_delta(order: str) -> None:
    plan = example(order)
    (strip,) = strips(make_figure(plan))
    polygons = [patch for patch in strip.patches if isinstance(patch, Polygon)]
    areas = [area(polygon.get_xy().tolist()) for polygon in polygons]
    assert areas == [slot.delta for slot in plan.slots] == [4, 5]


def test_nothing_is_hatched_without_delta_and_without_unused_columns() -> None:
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8))
    figure = make_figure(plan_sharing(model, ShareConfig(gain="none")))
    assert not [p for axes in figure.axes for p in axes.patches if isinstance(p, Polygon)]
    assert "columns that nothing reads" not in words(figure)
    assert "delta: dropped elements of a slot" not in words(figure)


def test_names_and_reuse_are_in_the_slots() -> None:
    figure = make_figure(stack(12, "all"))
    assert {"up\n×12", "down\n×12"} <= set(words(figure))
    assert "blocks.*.up.weight (12)" in words(figure)
    assert "VEPS: S = E P, 12 columns, 12 used, 0 unused" in words(figure)


def test_unused_columns_are_counted_and_explained() -> None:
    figure = make_figure(stack(2, "all", width=2048))
    assert "VEPS: S = E P, 2,048 columns, 12 used, 2,036 unused" in words(figure)
    assert "columns that nothing reads" in words(figure)


@pytest.mark.parametrize(
    ("plan", "number"),
    [(stack(1, "all"), 1), (stack(12, "none"), 2), (stack(100, "none"), 13)],
    ids=["2 slots", "24 slots", "200 slots"],
)
def test_many_slots_are_broken_into_strips_that_join(plan: SharePlan, number: int) -> None:
    found = strips(make_figure(plan))
    assert len(found) == number
    edges = [axes.get_xlim() for axes in found]
    assert edges[0][0] == 0
    assert edges[-1][1] == plan.sources[0].width
    assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


def test_texts_stay_inside_their_slots() -> None:
    figure = make_figure(stack(20, "none"))
    figure.canvas.draw()
    for axes in strips(figure):
        frame = axes.get_window_extent()
        for text in axes.texts:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1


def test_each_source_has_a_strip_and_a_title() -> None:
    model = nn.ModuleDict({"a": nn.Embedding(10, 4), "b": nn.Embedding(20, 4)})
    model["one"], model["two"] = nn.Linear(4, 4), nn.Linear(4, 4)
    config = ShareConfig(source={"one.*": "a", "two.*": "b"}, gain="none", column_bias=True)
    figure = make_figure(plan_sharing(model, config))
    assert len(strips(figure)) == 2
    assert {"a.weight  [10 × 4]", "b.weight  [20 × 4]"} <= set(words(figure))
    assert "VEPS: S = E P + b, 1 column, 1 used, 0 unused" in words(figure)


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({}, "VEPS: S = E P, 2 columns"),
        ({"anchor": 2.5}, "VEPS: S = (E + 2.5 s R) P, 2 columns"),
        ({"method": "eps"}, "EPS: the table's own columns, 4 columns"),
        ({"method": "eps", "anchor": 4}, "EPS: columns of (E + 4 s R), 4 columns"),
    ],
)
def test_the_title_says_what_is_read(fields: dict[str, Any], title: str) -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
    figure = make_figure(plan_sharing(model, ShareConfig(**fields)))
    assert any(text.startswith(title) for text in words(figure))


def test_very_many_roles_are_not_all_listed() -> None:
    model = nn.Sequential(nn.Embedding(50, 4))
    for number in range(40):
        model.add_module(f"layer{number}x", nn.Linear(4, 4 + number))
    plan = plan_sharing(model, ShareConfig(gain="none"))
    assert len(roles_of(plan)) == 40
    assert "and 4 more roles: print the plan to see them all" in words(make_figure(plan))


def test_roles_are_distinguished() -> None:
    roles = roles_of(stack(3, "sequence:2"))
    assert [role.key for role in roles] == ["a", "b"]
    assert [role.short for role in roles] == ["up", "down"]
    assert [role.readers for role in roles] == [3, 3]
    assert len({role.colour for role in roles}) == 2


def test_layers_of_one_name_and_two_shapes_are_two_roles() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(100, 16), "lstm": nn.LSTM(16, 8, num_layers=3)})
    shorts = [role.short for role in roles_of(plan_sharing(model))]
    assert shorts == ["weight_ih_l0", "weight_hh_l*", "weight_ih_l{1-2}"]


def test_a_wrong_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValueError, match=r"must end in \.pdf, \.png, \.svg, but is '.*x\.gif'"
    ):
        draw_plan(example(), tmp_path / "x.gif")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"plan\.png`: cannot be written \(No such file"):
        draw_plan(example(), tmp_path / "absent" / "plan.png")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'embshare\[plot\]'"):
        draw_plan(example(), tmp_path / "plan.png")


def test_blocks_that_are_parameters_are_drawn_side_by_side() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 6))
    plan = plan_sharing(model, ShareConfig(method="own", tie="cycle:2"))
    figure = make_figure(plan)
    (strip,) = strips(figure)
    blocks = [p for p in strip.patches if isinstance(p, Rectangle) and p.get_fill()]
    drawn = [(p.get_x(), p.get_width()) for p in blocks[1:]]  # the first is the strip itself
    assert drawn == [(24.0 * n, 24.0) for n, _ in enumerate(plan.slots)]
    assert f"{len(plan.slots)} blocks, each a parameter" in words(figure)
    assert "stored" in words(figure) and "delta" not in words(figure)
