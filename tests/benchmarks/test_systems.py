"""The study of systems: sizes, order, runs that are not repeated, and tables of what was found."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embshare.tasks.running.folder import OtherRunError
from tests.tasks.blimp.test_blimp import write
from tests.tasks.examples import EXAMPLES

PARTS = ("small_systems", "systems_tables", "systems_runs", "systems_workers", "systems")
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY: dict[str, Any] = {
    "budget": 20_000,
    "vocabulary": 360,
    "length": 24,
    "heads": 4,
    "steps": 3,
    "batch": 4,
    "tasks": ("rte",),
    "tuning_epochs": 0.1,
    "tuning_batch": 8,
    "blimp_pairs": 2,
    "elastic_tasks": ("rte",),
    "elastic_epochs": 0.2,
}


@pytest.fixture(scope="module")
def systems() -> Iterator[SimpleNamespace]:
    """All names of the script and of the modules beside it."""
    sys.path.insert(0, str(FOLDER))
    names: dict[str, Any] = {}
    for name in PARTS:
        names |= vars(importlib.import_module(name))
    yield SimpleNamespace(**names)
    sys.path.remove(str(FOLDER))


@pytest.fixture
def places(systems: Any, tmp_path: Path) -> Any:
    for name in ("text", "glue", "blimp"):
        (tmp_path / name).mkdir()
    EXAMPLES["pretraining"].settings(tmp_path / "text")
    EXAMPLES["glue"].settings(tmp_path / "glue")
    write(tmp_path / "blimp", "one", [("the quick fox", "the fox quick"), ("a dog", "dog a")])
    folders = {name: tmp_path / name for name in ("text", "glue", "blimp", "work")}
    return systems.Places(**folders)


def test_all_models_store_about_as_much(systems: Any) -> None:
    scale = systems.Scale()
    for system in systems.SYSTEMS.values():
        width = systems.fitted_width(system, scale)
        kept = systems.kept_parameters(systems.build_empty(system, width, scale))
        assert 0.92 * scale.budget <= kept <= scale.budget, system.name


def test_a_shared_model_is_wider_for_as_much(systems: Any) -> None:
    scale = systems.Scale(budget=900_000)
    for name, dense in (("shared_bert", "bert"), ("shared_elc_bert", "elc_bert")):
        wide, narrow = (systems.fitted_width(systems.SYSTEMS[n], scale) for n in (name, dense))
        assert wide > 1.5 * narrow


def test_matched_models_may_have_one_width(systems: Any) -> None:
    scale = systems.Scale(matched_width=64, matched_rank=3)
    for name in ("lstm_dense", "lstm_eps", "lstm_veps"):
        assert systems.fitted_width(systems.SYSTEMS[name], scale) == 64
    share = systems.SYSTEMS["lstm_veps"].share(scale)
    assert (share.method, share.residual_rank, share.gain) == ("veps", 3, "channel")
    assert systems.SYSTEMS["shared_bert"].share(scale).residual_rank == 0
    assert systems.fitted_width(systems.SYSTEMS["bert"], scale) != 64


def test_a_budget_that_nothing_fits_into_is_told(systems: Any) -> None:
    with pytest.raises(SystemExit, match="bert: no width fits into 900 parameters"):
        systems.fitted_width(systems.SYSTEMS["bert"], systems.Scale(budget=900))


def test_one_seed_comes_after_the_other(systems: Any, places: Any) -> None:
    scale = systems.Scale(tasks=("rte", "cola"))
    found = list(systems.pieces(["elc_bert", "taught_shared_bert"], [3, 4], scale, places))
    assert [piece.seed for piece in found] == [3] * 9 + [4] * 9
    assert [(piece.model, piece.kind) for piece in found[:6]] == [
        ("bert", "pretraining"),  # the teacher, which nobody named
        ("elc_bert", "pretraining"),
        ("elc_bert", "rte"),
        ("elc_bert", "cola"),
        ("elc_bert", "blimp"),
        ("taught_shared_bert", "pretraining"),
    ]
    assert found[5].after == (found[0],)
    assert all(set(piece.after) <= set(found[:index]) for index, piece in enumerate(found))


def test_elastic_models_have_seeds_of_their_own(systems: Any, places: Any) -> None:
    scale = systems.Scale(elastic_seeds=(4,), elastic_tasks=("rte",))
    found = list(systems.pieces(["deep_bert"], [3, 4], scale, places))
    assert [(p.seed, p.kind) for p in found] == [(4, "pretraining"), (4, "rte"), (4, "elastic-rte")]
    assert found[2].after == (found[1],)


def test_names_and_groups_are_models_in_their_order(systems: Any) -> None:
    found = systems.chosen(["conv_eps", "systems"])
    assert (found[0], found[-1], len(found)) == ("bert", "conv_eps", 7)
    with pytest.raises(SystemExit, match="gpt: must be of systems, together"):
        systems.chosen(["gpt"])


@pytest.mark.parametrize("name", ["shared_convbert", "elc_bert", "attention_eps"])
def test_a_model_goes_through_all_of_it(systems: Any, places: Any, name: str) -> None:
    scale = systems.Scale(**TINY)
    systems.learn_vocabulary(scale, places)
    found = [systems.do(p, scale, places) for p in systems.pieces([name], [5], scale, places)]
    assert [record.kind for record in found] == ["pretraining", "rte", "blimp"]
    assert all(record.seed == 5 and record.metric in record.metrics for record in found)
    assert found[0].kept <= scale.budget
    again = [systems.do(p, scale, places) for p in systems.pieces([name], [5], scale, places)]
    assert again == found  # seconds too: nothing was done
    assert not (places.work / "seed-5" / name / "pretraining" / "checkpoints").exists()


def test_a_student_is_trained_by_the_model_of_its_seed(systems: Any, places: Any) -> None:
    scale = systems.Scale(**TINY)
    systems.learn_vocabulary(scale, places)
    bert, student = list(systems.pieces(["taught_shared_bert"], [0], scale, places))[:2]
    systems.do(bert, scale, places)
    config = systems.run_config(student, scale, places)
    assert config.teacher == bert.folder(places)
    assert config.share is not None
    assert systems.do(student, scale, places).metrics["masked_perplexity"] > 1


def test_other_settings_need_another_folder(systems: Any, places: Any) -> None:
    scale = systems.Scale(**TINY)
    systems.learn_vocabulary(scale, places)
    piece = systems.Piece("bert", 0, "pretraining")
    systems.do(piece, scale, places)
    with pytest.raises(OtherRunError, match=r"learning_rate"):
        systems.do(piece, scale.model_copy(update={"rate": 1e-4}), places)
    larger = scale.model_copy(update={"vocabulary": 370})
    systems.learn_vocabulary(larger, places)
    with pytest.raises(OtherRunError, match="tokenizer"):
        systems.do(piece, larger, places)
    pairs = systems.Piece("bert", 0, "blimp")
    found = [systems.do(pairs, scale.model_copy(update={"blimp_pairs": n}), places) for n in (1, 2)]
    assert [record.metrics["blimp_pairs"] for record in found] == [1, 2]


def record(model: str, seed: int, kind: str, value: float, **more: Any) -> dict[str, Any]:
    metric = {"pretraining": "masked_perplexity", "blimp": "blimp"}.get(kind, "accuracy")
    fields = {
        "width": 8,
        "hidden": 400,
        "kept": 900,
        "read": 1200,
        "metric": metric,
        "metrics": {metric: value},
    }
    return {"model": model, "seed": seed, "kind": kind, "steps": 9, **fields, "more": more}


def test_tables_have_means_and_spreads(systems: Any) -> None:
    scale = json.loads(systems.Scale(tasks=("rte",), vocabulary=100).to_json())
    records = [record("bert", seed, "pretraining", 10.0 + seed) for seed in range(3)]
    records += [record("bert", seed, "rte", 50.0 + seed) for seed in range(2)]
    records += [record("convbert", 0, "pretraining", 30.0), record("bert", 0, "blimp", 0.6)]
    found = {"scale": scale, "records": records}
    bert, conv = systems.study_table(found).splitlines()[2:]
    assert bert == ("| BERT | 8 | 900 | 1,200 | 11.0 ± 1.0 | 60.0 (n = 1) | 50.5 ± 0.7 (n = 2) |")
    assert conv.split(" | ")[4:] == ["30.0 (n = 1) †", "- †", "- |"]
    together = systems.together_table(found).splitlines()[2:]
    assert [line.split(" | ")[:3] for line in together] == [
        ["| BERT", "900", "100"],
        ["| ConvBERT", "900", "100"],
    ]
    assert systems.matched_table(found) == ""
    told = systems.settings_line(found)
    assert told.startswith("2 models, seeds 0, 1, 2: 2 layers, a table of 100 rows")
    assert "5,000 steps of 32 x 16 symbols, and from 75% of them on of 8 x 64" in told
    assert systems.elastic_table(found) == ""


def test_sub_networks_have_a_table(systems: Any) -> None:
    row = {"metrics": {"accuracy": 61.0}, "parameters": 1234, "latency_ms": 2.0}
    row |= {"weights_mib": 1.5, "working_mib": 0.25}
    rows = [row | {"width": w, "depth": d} for d in (1.0, 0.5) for w in (1.0, 0.25)]
    found = {"records": [record("deep_bert", 0, "elastic-rte", 61.0, rows=rows, before=62.0)]}
    lines = systems.elastic_table(found).splitlines()
    assert lines[0] == "BERT, four layers, RTE, seed 0, 9 updates in all stages; before them 62.0:"
    assert lines[2] == "| width \\ depth | 1 | 0.5 |"
    assert lines[5] == "| 0.25 |" + " 61.0, 1,234, 2.0 ms, 1.8 MiB |" * 2


@pytest.mark.slow
def test_a_study_is_done_by_processes_and_what_fails_stops_nothing_else(
    systems: Any, places: Any
) -> None:
    scale = systems.Scale(**TINY)
    systems.learn_vocabulary(scale, places)
    names = ["bert", "elc_bert", "deep_shared_bert"]
    wanted = list(systems.pieces(names, [0], scale, places))
    broken = systems.Piece("elc_bert", 0, "pretraining").folder(places)
    broken.parent.mkdir(parents=True)
    broken.write_text("no folder")
    found = dict(systems.do_all(wanted, scale, places, jobs=2))
    failed = [piece for piece, result in found.items() if isinstance(result, BaseException)]
    assert [(piece.model, piece.kind) for piece in failed] == [("elc_bert", "pretraining")]
    left_out = set(wanted) - set(found)
    assert {(piece.model, piece.kind) for piece in left_out} == {
        ("elc_bert", "rte"),
        ("elc_bert", "blimp"),
    }
    elastic = found[systems.Piece("deep_shared_bert", 0, "elastic-rte")]
    assert len(elastic.more["rows"]) == 12


def test_what_shared_models_keep_is_told_beside_their_scores(systems: Any) -> None:
    scale = json.loads(systems.Scale(tasks=("rte",)).to_json())
    records = [
        record("lstm_dense", 0, "pretraining", 10.0),
        record("lstm_veps", 0, "pretraining", 11.0) | {"hidden": 40},
        *(record("lstm_dense", seed, "rte", 50.0) for seed in range(3)),
        *(record("lstm_veps", seed, "rte", 49.0) for seed in range(3)),
        record("lstm_dense", 0, "blimp", 0.6),
    ]
    dense, shared = systems.matched_table({"scale": scale, "records": records}).splitlines()[2:]
    assert dense.endswith("| 400 | 10.0 (n = 1) | 60.0 (n = 1) | 50.0 ± 0.0 | 50.0 ± 0.0 |")
    kept = "49.0 ± 0.0, 98.0 % | 49.0 ± 0.0, 98.0 % |"
    assert shared.endswith(f"| 40 (10.0 x) | 11.0 (n = 1), +10.0 % | - | {kept}")
    of_one_width = {**scale, "matched_width": 128}
    told = systems.settings_line({"scale": of_one_width, "records": records})
    assert "seeds 0, 1, 2: " in told
    assert "a table of 4,000 rows, width 128; " in told
