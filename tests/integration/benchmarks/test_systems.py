"""The study of systems: sizes, order, what each trial is, and tables of what was found."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.studies.engine import do_trials
from embshare.tasks.studies.study_file import Trial
from embshare.tasks.studies.trial import Doing
from embshare.tasks.studies.workers import ThisProcess
from tests._support.task_examples import EXAMPLES
from tests.integration.tasks.blimp.test_blimp import write

PARTS = ("small_systems", "systems_tables", "systems_runs", "systems")
FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
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


def kinds(found: Sequence[Trial]) -> list[tuple[str, str]]:
    return [(trial.labels["model"], trial.labels["kind"]) for trial in found]


def test_one_seed_comes_after_the_other(systems: Any, places: Any) -> None:
    scale = systems.Scale(tasks=("rte", "cola"))
    found = list(systems.trials(["elc_bert", "taught_shared_bert"], [3, 4], scale, places))
    assert [trial.labels["seed"] for trial in found] == ["3"] * 9 + ["4"] * 9
    assert kinds(found[:6]) == [
        ("bert", "pretraining"),  # the teacher, which nobody named
        ("elc_bert", "pretraining"),
        ("elc_bert", "rte"),
        ("elc_bert", "cola"),
        ("elc_bert", "blimp"),
        ("taught_shared_bert", "pretraining"),
    ]
    assert found[5].needs == (found[0].name,)
    names = [trial.name for trial in found]
    assert all(set(trial.needs) <= set(names[:index]) for index, trial in enumerate(found))


def test_elastic_models_have_seeds_of_their_own(systems: Any, places: Any) -> None:
    scale = systems.Scale(elastic_seeds=(4,), elastic_tasks=("rte",))
    found = list(systems.trials(["deep_bert"], [3, 4], scale, places))
    assert {trial.labels["seed"] for trial in found} == {"4"}
    assert kinds(found) == [
        ("deep_bert", "pretraining"),
        ("deep_bert", "rte"),
        ("deep_bert", "elastic-rte"),
    ]
    assert found[2].needs == (found[1].name,)


def test_names_and_groups_are_models_in_their_order(systems: Any) -> None:
    found = systems.chosen(["conv_eps", "systems"])
    assert (found[0], found[-1], len(found)) == ("bert", "conv_eps", 7)
    with pytest.raises(SystemExit, match="gpt: must be of systems, together"):
        systems.chosen(["gpt"])


def done(systems: Any, names: list[str], seeds: list[int], scale: Any, places: Any) -> Any:
    """Do the trials of some models in this process."""
    systems.learn_vocabulary(scale, places)
    systems.hold_to_scale(scale, places)
    study = systems.Study(provenance=read_provenance(), scale=scale, jobs=1, records=())
    observer = systems.Written(study, places, places.work / "found.json")
    wanted = list(systems.trials(names, seeds, scale, places))
    with ThisProcess() as pool:
        how = Doing(code=(), checkpoints=True)
        found = do_trials(wanted, pool, how=how, fail_fast=True, observer=observer)
    return found, json.loads((places.work / "found.json").read_text())["records"]


@pytest.mark.parametrize("name", ["shared_convbert", "elc_bert", "attention_eps"])
def test_a_model_goes_through_all_of_it(systems: Any, places: Any, name: str) -> None:
    scale = systems.Scale(**TINY)
    first, records = done(systems, [name], [5], scale, places)
    assert [record["kind"] for record in records] == ["pretraining", "rte", "blimp"]
    assert all(record["seed"] == 5 and record["metric"] in record["metrics"] for record in records)
    assert records[0]["kept"] <= scale.budget
    again, same = done(systems, [name], [5], scale, places)
    assert same == records  # seconds too: nothing was done
    assert (len(first.kept), len(again.kept)) == (0, 3)
    assert not list(places.work.rglob("checkpoints"))


def test_a_student_is_trained_by_the_model_of_its_seed(systems: Any, places: Any) -> None:
    scale = systems.Scale(**TINY)
    bert, student = list(systems.trials(["taught_shared_bert"], [0], scale, places))[:2]
    assert student.config.teacher == bert.config.out
    assert student.config.share is not None
    without = places.model_copy(update={"glue": None, "blimp": None})
    _, (_, taught) = done(systems, ["taught_shared_bert"], [0], scale, without)
    assert taught["metrics"]["masked_perplexity"] > 1


def test_other_settings_need_another_folder(systems: Any, places: Any) -> None:
    scale = systems.Scale(**TINY)
    systems.hold_to_scale(scale, places)
    systems.hold_to_scale(scale, places)
    with pytest.raises(SystemExit, match="was begun with another vocabulary, rate, see"):
        systems.hold_to_scale(scale.model_copy(update={"rate": 1e-4, "vocabulary": 9}), places)


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
    line = systems.settings_line(found)
    assert line.startswith("2 models, seeds 0, 1, 2: 2 layers, a table of 100 rows")
    assert "5,000 steps of 32 x 16 tokens, and from 75% of them on of 8 x 64" in line
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
def test_elastic_models_have_their_sub_networks_in_the_result(systems: Any, places: Any) -> None:
    scale = systems.Scale(**TINY)
    _, records = done(systems, ["deep_shared_bert"], [0], scale, places)
    assert [record["kind"] for record in records] == ["pretraining", "rte", "elastic-rte"]
    assert len(records[2]["more"]["rows"]) == 12


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
    line = systems.settings_line({"scale": of_one_width, "records": records})
    assert "seeds 0, 1, 2: " in line
    assert "a table of 4,000 rows, width 128; " in line
