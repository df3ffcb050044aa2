"""What comes out for architectures that are sound, and for those that are not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.tasks.measurement.provenance import read_provenance
from tests.architectures.check import check
from tests.architectures.examples import BY_NAME
from tests.architectures.processes import Job, check_all
from tests.architectures.results import Kept, Report, Row, Run, regressions
from tests.architectures.tables import KINDS, exceptions_table, kind_of, summary_table

PLACE = "tests.architectures.examples"


def test_a_sound_one_passes_and_is_counted() -> None:
    row = check(BY_NAME["sound"])
    assert (row.outcome, row.finding, row.source) == ("passes", "", ("embed.weight",))
    assert row.hidden == row.derived == 2 * 64 + 64 + 24
    assert row.share == 1.0
    assert [(kept.weights, kept.elements) for kept in row.tables] == [(("positions",), 48)]


@pytest.mark.parametrize(
    ("name", "outcome", "stage", "finding"),
    [
        ("constant", "fails", "train", "InputsError: `Constant`: a step did not change what it"),
        ("tableless", "no table", "plan", "NoSourceError: Linear has no table `auto`"),
        ("broken", "not run", "build", "OSError: there is no such file"),
        ("infinite", "not run", "run dense", "ValueError: its loss is inf"),
        ("absent", "not run", "build", "needs a package"),
    ],
)
def test_where_it_ends_and_why(name: str, outcome: str, stage: str, finding: str) -> None:
    row = check(BY_NAME[name])
    assert (row.outcome, row.stage) == (outcome, stage)
    assert row.finding.startswith(finding)


def test_what_stays_dense_is_told_with_its_reason() -> None:
    row = check(BY_NAME["two-ways"])
    assert row.outcome == "passes" and row.hidden - row.derived == 64
    (kept,) = row.dense
    assert kept.elements == 64 and "lay it out differently" in kept.reason


def test_a_gate_that_is_closed_at_the_start_is_no_fault() -> None:
    row = check(BY_NAME["gated"])
    assert (row.outcome, row.finding, row.notes) == ("passes", "", ())


def test_what_no_step_changes_in_the_dense_model_is_noted() -> None:
    row = check(BY_NAME["shut"])
    (note,) = row.notes
    assert (row.outcome, row.finding) == ("passes", "")
    assert note == "3 steps change these in the dense model no more than here: " + ", ".join(
        ("mix", "layers.*.weight", "behind.weight")
    )


def test_what_rounding_explains_is_noted_and_what_it_does_not_is_a_failure() -> None:
    row = check(BY_NAME["touchy"])
    assert (row.outcome, row.finding) == ("passes", "")
    assert row.notes == (
        "amplifies rounding: dense and shared differ by as much as its weights' last bits",
    )
    row = check(BY_NAME["other"])
    assert (row.outcome, row.stage) == ("fails", "materialize")
    assert row.finding.startswith("ValueError: its loss is ")


def test_what_changes_in_the_dense_model_alone_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shutting(model: nn.Module, plan: embshare.SharePlan) -> nn.Module:
        shared = sharing(model, plan)
        shared.get_parameter("gate").requires_grad_(False)
        return shared

    sharing = embshare.share_from_embedding
    monkeypatch.setattr(embshare, "share_from_embedding", shutting)
    row = check(BY_NAME["gated"])
    assert (row.outcome, row.stage) == ("fails", "train")
    assert row.finding == "ValueError: a step did not change `mix`"


def test_a_fault_of_sharing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(model: nn.Module, *, inplace: bool) -> nn.Module:
        plain = plainly(model, inplace=inplace)
        plain.get_parameter("mix").data.add_(1e-6)
        return plain

    plainly = embshare.materialize
    monkeypatch.setattr(embshare, "materialize", stale)
    row = check(BY_NAME["sound"])
    assert (row.outcome, row.stage, row.finding) == (
        *("fails", "materialize"),
        "ValueError: `mix` differs",
    )


def test_loading_something_else_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = embshare.load

    def partial(folder: Path, model: nn.Module) -> nn.Module:
        loaded = loading(folder, model)
        with torch.no_grad():
            loaded.get_parameter("norm.weight").add_(0.1)
        return loaded

    monkeypatch.setattr(embshare, "load", partial)
    row = check(BY_NAME["sound"])
    assert (row.outcome, row.stage) == ("fails", "load")
    assert row.finding == "ValueError: `norm.weight` differs from what was saved"


def test_processes_that_die_or_hang_cost_one_row_each() -> None:
    names = ("sound", "dying", "hanging", "absent")
    jobs = [Job(place=PLACE, library="made here", name=name) for name in names]
    rows = {row.name: row for row in check_all(jobs, limit=8.0)}
    assert rows["sound"].outcome == "passes"
    assert rows["dying"].finding == "its process died (exit code 3)"
    assert rows["hanging"].finding == "nothing came of it within 8 seconds"
    assert rows["absent"].outcome == "not run"


def row(name: str, **fields: Any) -> Row:
    made: dict[str, Any] = {"outcome": "passes", "hidden": 100, "derived": 100}
    return Row(library="transformers", name=name, **(made | fields))


def test_only_what_got_worse_is_a_regression() -> None:
    old = [row("A"), row("B"), row("C", outcome="fails"), row("D"), row("E")]
    new = [
        row("A", outcome="fails", stage="sharing", finding="KeyError: 'x'"),
        row("B", derived=90),
        row("C", outcome="not run"),
        row("E", derived=100),
        row("F", outcome="fails"),
    ]
    assert regressions(old, new) == [
        "transformers A: fails (sharing: KeyError: 'x')",
        "transformers B: derives 90.0%, before 100.0%",
    ]


def test_a_row_stays_with_the_versions_that_it_came_from() -> None:
    first = read_provenance()
    second = first.model_copy(update={"commit": "another"})
    report = Report().joined(Run(provenance=first, rows=(row("B"), row("A"))))
    report = report.joined(Run(provenance=second, rows=(row("B", derived=50),)))
    assert [(w.provenance.commit, [r.name for r in w.rows]) for w in report.runs] == [
        (first.commit, ["A"]),
        ("another", ["B"]),
    ]
    assert [(r.name, r.share) for r in report.rows()] == [("A", 1.0), ("B", 0.5)]
    assert Report.from_json(report.to_json()) == report


def test_the_tables_of_the_documentation() -> None:
    rows = (
        row("AForCausalLM"),
        row(
            "BForCausalLM", derived=50, dense=(Kept(reason="frozen", weights=("w",), elements=50),)
        ),
        row("CModel", outcome="not run", stage="build", finding="ImportError: a|b"),
        row("DModel", outcome="no table"),
    )
    report = Report().joined(Run(provenance=read_provenance(), rows=rows))
    told = summary_table(report)
    assert "| causal language models | 2 | 0 | 0 | 0 | 2 | 100.0% of 2 | 1 |" in told
    assert "| bare models | 2 | 1 | 1 | 0 | 0 | 0.0% of 1 | 0 |" in told
    assert "| all |  | 4 | 1 | 1 | 0 | 2 | 66.7% of 3 | 1 |" in told
    told = exceptions_table(report)
    assert "| transformers | BForCausalLM | 50% derived | `1 kinds of weights: frozen` |" in told
    assert "| transformers | CModel | not run | `ImportError: a/b` |" in told


@pytest.mark.parametrize(
    ("library", "name", "kind"),
    [
        ("transformers", "GPT2LMHeadModel", "causal language models"),
        ("transformers", "BertModel", "bare models"),
        ("transformers", "VitsForTextToSpeech", "speech"),
        ("transformers", "PI0ForConditionalGeneration", KINDS[6][0]),
        ("transformers", "JevForDecision", "others"),
        ("fairseq", "transformer_lm", "language models"),
        ("fairseq", "lstm", "translation"),
        ("timm", "test_vit", "one of each module"),
    ],
)
def test_a_kind_is_read_from_the_name(library: str, name: str, kind: str) -> None:
    assert kind_of(Row(library=library, name=name, outcome="passes")) == kind
