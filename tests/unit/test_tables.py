"""Plans and summaries as text."""

import doctest

import pytest
from rich.text import Text
from torch import nn

import embshare
from embshare import ShareConfig, plan_sharing
from embshare._tables import WIDTH, render
from embshare.plan import printing
from embshare.plan.printing import abbreviate
from embshare.plan.tying import pattern_of


class Tagger(nn.Module):
    """Repeated blocks, a stacked LSTM, a tied head, a second table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.places = nn.Embedding(6, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.reader = nn.LSTM(8, 8, num_layers=2)
        self.tag = nn.Linear(8, 3)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.table.weight


def lines(text: str) -> list[str]:
    return text.strip("\n").splitlines()


PLAN = """
VEPS, tie=sequence:2: 8 weights (1,280 elements) from 6 slots
ShareConfig(tie='sequence:2', exclude=('tag.*',), gain='none')
start: random (no weight is known to be trained; say trained=True if they are)
sources

 #  table           V  D  F  columns  used  unused  stored for them
 ──────────────────────────────────────────────────────────────────
 0  table.weight   50  8  8       28    28       0              224
    = head.weight

slots

  columns  G  delta   shape  order   gain  readers                  reuse
 ────────────────────────────────────────────────────────────────────────
 [26, 28)  2     36   8 × 8  row, T     1  blocks.{0-1}.weight (2)     ×2
 [24, 26)  2     36   8 × 8  row, T     1  blocks.{2-3}.weight (2)     ×2
 [18, 24)  6     44  32 × 8  row        1  reader.weight_ih_l0         ×1
 [12, 18)  6     44  32 × 8  row        1  reader.weight_hh_l0         ×1
  [6, 12)  6     44  32 × 8  row        1  reader.weight_ih_l1         ×1
   [0, 6)  6     44  32 × 8  row        1  reader.weight_hh_l1         ×1

T: the block is [in, out], and the weight is its transpose

left dense

 reason                          weights        elements
 ───────────────────────────────────────────────────────
 an embedding looks its rows up  places.weight        48
 excluded by 'tag.*'             tag.weight           24

patterns

 field    pattern  weights
 ─────────────────────────
 include  *              9
 exclude  tag.*          1
"""

SUMMARY = """
                               dense  shared  ratio
 ──────────────────────────────────────────────────
 stored parameters             1,915     747   2.56
 of them for hidden weights    1,280     112  11.43
 bytes                         7,660   3,516   2.18
 parameters read                       2,315
 multiply-adds per position    1,704   1,704   1.00
 multiply-adds to derive once          5,600

slots

  columns  G   shape  readers                  reuse
 ───────────────────────────────────────────────────
 [12, 14)  2   8 × 8  blocks.*.weight (4)         ×4
  [6, 12)  6  32 × 8  reader.weight_ih_l* (2)     ×2
   [0, 6)  6  32 × 8  reader.weight_hh_l* (2)     ×2

start: random (no weight is known to be trained; say trained=True if they are)
unused columns: 0

left dense

 reason                          weights        elements
 ───────────────────────────────────────────────────────
 an embedding looks its rows up  places.weight        48
 excluded by 'tag.*'             tag.weight           24
"""


def test_a_plan_is_shown_whole() -> None:
    config = ShareConfig(tie="sequence:2", gain="none", exclude=("tag.*",))
    assert lines(str(plan_sharing(Tagger(), config))) == lines(PLAN)


def test_a_summary_is_shown_whole() -> None:
    config = ShareConfig(gain="none", exclude=("tag.*",))
    shared = embshare.share_from_embedding(Tagger(), config)
    assert lines(str(embshare.summarize(shared))) == lines(SUMMARY)


def test_several_sources_are_numbered() -> None:
    model = nn.ModuleDict({"a": nn.Embedding(10, 4), "b": nn.Embedding(20, 4)})
    model["one"], model["two"] = nn.Linear(4, 4), nn.Linear(4, 4)
    config = ShareConfig(source={"one.*": "a", "two.*": "b"}, gain="none")
    text = str(plan_sharing(model, config))
    assert " 1  b.weight  20  4  4" in text
    assert " 1   [0, 1)  1      4  4 × 4  row, T     1  two.weight     ×1" in text


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (ShareConfig(), "50  8  8       28    28       0              224"),
        (ShareConfig(width=40), "50  8  8       40    28      12              320"),
        (ShareConfig(column_bias=True), "50  8  8       28    28       0              252"),
        (ShareConfig(factor=4), "50  8  4       28    28       0              112"),
        (
            ShareConfig(method="eps", include=("tag.*",)),
            "50  8  8        8     1       7                0",
        ),
    ],
)
def test_a_source_is_counted(config: ShareConfig, numbers: str) -> None:
    wanted = {"tie": "sequence:2"} if config.include == ("*",) else {}
    fields = {**config.model_dump(), **wanted}
    if config.include == ("*",):
        fields["exclude"] = ("tag.*",)
    assert numbers in str(plan_sharing(Tagger(), ShareConfig(**fields)))


def test_brackets_in_a_name_are_no_markup() -> None:
    model = nn.Sequential(nn.Embedding(10, 4))
    model.add_module("[red]", nn.Linear(4, 4))
    assert "[red].weight" in str(plan_sharing(model))
    assert "[red].weight" in str(embshare.summarize(embshare.share_from_embedding(model)))


def test_no_line_is_wider_than_the_width_and_names_are_folded_not_lost() -> None:
    name = "a" * 200
    model = nn.Sequential(nn.Embedding(10, 4))
    model.add_module(name, nn.Linear(4, 4))
    text = str(plan_sharing(model))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert sum(line.count("a") for line in text.split("slots\n")[1].splitlines()) >= 200


@pytest.mark.parametrize("variable", ["COLUMNS", "FORCE_COLOR", "TERM"])
def test_the_terminal_changes_nothing(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_sharing(Tagger(), ShareConfig(gain="none"))
    before = render(plan)
    monkeypatch.setenv(variable, "40")
    assert render(plan) == before
    assert "\x1b" not in before


def test_a_summary_is_a_renderable_too() -> None:
    summary = embshare.summarize(embshare.share_from_embedding(Tagger()))
    assert render(summary) == str(summary)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("encoder.layer.11.output.dense.weight", "encoder.layer.*.output.dense.weight"),
        ("0.weight", "*.weight"),
        ("h.3.mlp.2.w", "h.*.mlp.*.w"),
        ("lstm.weight_hh_l12_reverse", "lstm.weight_hh_l*_reverse"),
        ("fc1.weight", "fc1.weight"),
        ("conv2d.weight", "conv2d.weight"),
        ("experts.gate_up_proj", "experts.gate_up_proj"),
    ],
)
def test_indices_are_what_makes_repeated_blocks_differ(name: str, pattern: str) -> None:
    assert pattern_of(name) == pattern


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([0, 1, 2, 3], "b.*.w (4)"),
        ([0, 1, 3], "b.{0-1,3}.w (3)"),
        ([0, 2], "b.{0,2}.w (2)"),
        ([3], "b.3.w"),
    ],
)
def test_readers_are_abbreviated(numbers: list[int], shown: str) -> None:
    assert abbreviate([f"b.{n}.w" for n in numbers], {"b.*.w": 4}) == [shown]


def test_what_does_not_vary_is_spelled_out() -> None:
    names = ["a.1.b.0.w", "a.1.b.1.w"]
    assert abbreviate(names, {"a.*.b.*.w": 9}) == ["a.1.b.{0-1}.w (2)"]


def test_text_comes_out_as_it_is() -> None:
    assert render(Text("[bold]x[/bold] :smile:")) == "[bold]x[/bold] :smile:"


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(printing).failed == 0


def test_text_is_text_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_sharing(Tagger())
    wanted = str(plan)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(plan) == wanted
