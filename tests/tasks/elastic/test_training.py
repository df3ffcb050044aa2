"""The stages on `Trainer`: they learn, and the best of what they saw is what remains."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.tasks.elastic.stages import (
    DEPTH_STAGE,
    TUNING_STAGE,
    WIDTH_STAGE,
    ElasticSettings,
    Stage,
)
from embshare.tasks.elastic.training import Evaluation, evaluate_sizes, train_stage
from tests.models.dynabert.examples import model
from tests.models.dynabert.make_official import RATE, STEPS
from tests.models.dynabert.official import batch as official_batch
from tests.models.dynabert.official import bert, under

Rows = list[dict[str, Any]]


def official_rows() -> Rows:
    data = official_batch()
    names = [name for name in data if name != "labels"]
    return [
        {name: data[name][i] for name in names} | {"label": int(data["labels"][i])}
        for i in range(len(data["labels"]))
    ]


def task(count: int = 48) -> Rows:
    """Sentences whose class is that of their second word."""
    ids = torch.randint(2, 40, (count, 6), generator=torch.Generator().manual_seed(3))
    return [{"input_ids": row, "labels": int(row[1]) % 3} for row in ids]


def accuracy(found: nn.Module) -> Mapping[str, float]:
    rows = task()
    logits = found(input_ids=torch.stack([row["input_ids"] for row in rows])).logits
    hits = logits.argmax(-1) == torch.tensor([row["labels"] for row in rows])
    return {"accuracy": float(hits.float().mean())}


@pytest.mark.parametrize(
    ("name", "stage"), [("width", WIDTH_STAGE), ("depth", DEPTH_STAGE), ("tuned", TUNING_STAGE)]
)
def test_the_trainer_does_what_the_official_loop_does(
    name: str, stage: Stage, tmp_path: Path
) -> None:
    """To the epsilon of AdamW, which torch adds after the correction of the bias."""
    made = dynabert.rewire(bert(), dynabert.Importance(**under("bert/importance/")))
    result = train_stage(
        made,
        stage,
        official_rows(),  # type: ignore[arg-type]
        ElasticSettings(epochs=STEPS, batch_size=6, learning_rate=RATE),
        folder=tmp_path,
        teacher=bert() if stage.distil else None,
    )
    official = under(f"bert/{name}/")["losses"]
    assert result.steps == STEPS and result.best is None
    assert result.loss == pytest.approx(float(official.sum(1).mean()), rel=1e-3)
    assert result.loss != pytest.approx(float(official[0].sum()), rel=1e-3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sharing", ["tied", pytest.param("plain", marks=pytest.mark.slow)])
def test_three_stages_one_after_the_other(sharing: str, tmp_path: Path) -> None:
    made, rows = model(sharing=sharing), task()
    fast: dict[str, Any] = {"batch_size": 16, "learning_rate": 1e-2, "warmup": 0.1}
    one = Stage(name="fine-tuning", widths=(1.0,), depths=(1.0,), distil=False)
    settings = ElasticSettings(epochs=20, evaluate_every=40, **fast)
    train_stage(made, one, rows, settings, folder=tmp_path, evaluate=accuracy)  # type: ignore[arg-type]
    with torch.no_grad():
        assert accuracy(made.eval())["accuracy"] > 0.6  # a third by chance
    teacher = copy.deepcopy(made)
    dynabert.rewire(made, dynabert.importance(made, [rows_to_batch(rows)]))
    before = scores(made)
    settings = ElasticSettings(epochs=4, evaluate_every=6, **fast)
    more: dict[str, Any] = {"folder": tmp_path, "evaluate": accuracy}
    first = train_stage(made, WIDTH_STAGE, rows, settings, teacher=teacher, **more)  # type: ignore[arg-type]
    assert first.steps == 12 and [found.step for found in first.history] == [6, 12]
    teacher = copy.deepcopy(made)
    second = train_stage(made, DEPTH_STAGE, rows, settings, teacher=teacher, **more)  # type: ignore[arg-type]
    third = train_stage(made, TUNING_STAGE, rows, settings, **more)  # type: ignore[arg-type]
    assert second.best is not None and third.best is not None
    after = scores(made)
    assert sum(after) == pytest.approx(third.best.total, abs=1e-6)
    assert sum(after) > sum(before) + 1


def rows_to_batch(rows: Rows) -> dict[str, Tensor]:
    return {
        "input_ids": torch.stack([row["input_ids"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def scores(made: Any) -> list[float]:
    with torch.no_grad():
        found = evaluate_sizes(made.eval(), dynabert.sub_networks(), accuracy)
    return [metrics["accuracy"] for metrics in found]


def test_the_best_state_is_kept(tmp_path: Path) -> None:
    """A training that only gets worse ends with what it had at first, the bank's table included."""
    made, seen = model(sharing="tied"), []

    def worse(found: nn.Module) -> Mapping[str, float]:
        assert not found.training and not torch.is_grad_enabled()
        seen.append({name: tensor.clone() for name, tensor in found.state_dict().items()})
        return {"score": -float(len(seen)), "other": float(len(seen))}

    stage = Stage(name="one", widths=(1.0, 0.5), depths=(1.0,), distil=False)
    settings = ElasticSettings(epochs=1, batch_size=16, learning_rate=1e-2, evaluate_every=1)
    result = train_stage(made, stage, task(), settings, folder=tmp_path, evaluate=worse)  # type: ignore[arg-type]
    assert [found.step for found in result.history] == [1, 2, 3]  # the last is not seen twice
    assert result.best == result.history[0] and result.best.total == -3
    assert len(seen) == 6
    assert all(torch.equal(tensor, seen[0][name]) for name, tensor in made.state_dict().items())
    assert any(not torch.equal(seen[0][name], seen[-1][name]) for name in seen[0])


def test_a_metric_is_needed() -> None:
    with pytest.raises(InvalidValueError, match="must return at least one metric"):
        evaluate_sizes(model(), dynabert.sub_networks(), lambda _: {})


def test_batches_of_one_update_are_averaged(tmp_path: Path) -> None:
    """Half of the rows twice is the same update as all of them once."""
    found, rows = [], task(16)
    stage = Stage(name="one", widths=(1.0, 0.5), depths=(1.0,), distil=False)
    for size, accumulate in ((16, 1), (8, 2)):
        made = model()
        settings = ElasticSettings(
            epochs=1, batch_size=size, accumulate=accumulate, learning_rate=1e-2
        )
        train_stage(made, stage, rows, settings, folder=tmp_path)  # type: ignore[arg-type]
        found.append(made.classifier.weight.detach())
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_a_total_that_is_no_number_is_the_worst() -> None:
    low, high, bad = (Evaluation(1, ({"score": v},)) for v in (1.0, 2.0, math.nan))
    assert high.beats(low) and high.beats(bad)
    assert not any(one.beats(other) for one, other in ((low, high), (bad, low), (bad, bad)))
