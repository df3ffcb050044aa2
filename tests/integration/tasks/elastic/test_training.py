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
from embshare.tasks.elastic.objective import DEPTH_STAGE, TUNING_STAGE, WIDTH_STAGE, Stage
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.elastic.training import Evaluation, evaluate_sizes, train_stage
from embshare.tasks.settings import TrainSettings
from tests.integration.models.dynabert.examples import model
from tests.integration.models.dynabert.make_official import RATE, STEPS
from tests.integration.models.dynabert.official import batch as official_batch
from tests.integration.models.dynabert.official import bert, official_importance, under

ONE = Stage(name="one", widths=(1.0, 0.5), depths=(1.0,), distil=False)


def settings(**changed: Any) -> TrainSettings:
    return ElasticConfig(**({"batch_size": 16, "learning_rate": 1e-2} | changed)).training


def official_rows() -> Any:
    data = official_batch()
    names = [name for name in data if name != "labels"]
    return [
        {name: data[name][i] for name in names} | {"label": int(data["labels"][i])}
        for i in range(len(data["labels"]))
    ]


def task(count: int = 48) -> Any:
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
    made = dynabert.rewire(bert(), official_importance())
    result = train_stage(
        made,
        stage,
        official_rows(),
        settings(epochs=STEPS, batch_size=6, learning_rate=RATE),
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
    more: dict[str, Any] = {"folder": tmp_path, "evaluate": accuracy, "evaluate_every": 40}
    one = Stage(name="fine-tuning", widths=(1.0,), depths=(1.0,), distil=False)
    train_stage(made, one, rows, settings(epochs=20, warmup=0.1), **more)
    with torch.no_grad():
        assert accuracy(made.eval())["accuracy"] > 0.6  # a third by chance
    teacher = copy.deepcopy(made)
    dynabert.rewire(made, dynabert.importance(made, [rows_to_batch(rows)]))
    before, short = scores(made), settings(epochs=4, warmup=0.1)
    more["evaluate_every"] = 6
    first = train_stage(made, WIDTH_STAGE, rows, short, teacher=teacher, **more)
    assert first.steps == 12 and [found.step for found in first.history] == [6, 12]
    teacher = copy.deepcopy(made)
    second = train_stage(made, DEPTH_STAGE, rows, short, teacher=teacher, **more)
    third = train_stage(made, TUNING_STAGE, rows, short, **more)
    assert second.best is not None and third.best is not None
    after = scores(made)
    assert sum(after) == pytest.approx(third.best.total, abs=1e-6)
    assert sum(after) > sum(before) + 1


def rows_to_batch(rows: Any) -> dict[str, Tensor]:
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

    result = train_stage(
        made, ONE, task(), settings(epochs=1), folder=tmp_path, evaluate=worse, evaluate_every=1
    )
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
    for size, accumulate in ((16, 1), (8, 2)):
        made, asked = model(), settings(epochs=1, batch_size=size, accumulate=accumulate)
        train_stage(made, ONE, rows, asked, folder=tmp_path)
        found.append(made.classifier.weight.detach())
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_a_total_that_is_nan_is_the_worst() -> None:
    low, high, bad = (Evaluation(1, ({"score": v},)) for v in (1.0, 2.0, math.nan))
    assert high.beats(low) and high.beats(bad)
    assert not any(one.beats(other) for one, other in ((low, high), (bad, low), (bad, bad)))
