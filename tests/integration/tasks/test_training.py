"""What the trainer adds to the one of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification

from embshare import ShareConfig, materialize, share_from_embedding
from embshare.models.matched import MatchedConfig, MatchedLanguageModel
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Batch, Feed
from embshare.tasks.trainer import DivergedWarning, SharingTrainer
from embshare.tasks.training import Saving, make_arguments, train


def test_matrices_have_the_rate_that_the_settings_say(tmp_path: Path) -> None:
    settings = TrainSettings(learning_rate=0.02, hidden_lr=0.25, weight_decay=0.1)
    model = MatchedLanguageModel(MatchedConfig(architecture="conv", vocab_size=50, width=16))
    arguments = make_arguments(settings, seed=0, folder=tmp_path)
    trainer = SharingTrainer(model=model, args=arguments, hidden_lr=settings.hidden_lr)
    groups = {group["name"]: group for group in trainer.create_optimizer().param_groups}
    assert groups["table"]["lr"] == groups["vectors"]["lr"] == pytest.approx(0.02)
    assert groups["hidden"]["lr"] == pytest.approx(0.005)
    assert [p is model.embedding.weight for p in groups["table"]["params"]] == [True]
    assert groups["vectors"]["weight_decay"] == 0 < groups["hidden"]["weight_decay"]


def test_an_objective_takes_the_place_of_the_models_loss(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []

    def objective(model: nn.Module, batch: Batch, remaining: int) -> Tensor:
        seen.append((remaining, sorted(batch)))
        weight: Tensor = model(batch["x"])
        return (weight - 3).square().mean()

    model = nn.Linear(1, 1, bias=False)
    rows = [{"x": torch.ones(1), "labels": torch.zeros(1)}] * 4
    settings = TrainSettings(steps=30, batch_size=2, learning_rate=0.3, hidden_lr=1.0)
    feed = Feed(rows=cast(Dataset[Any], rows), objective=objective)
    train(model, feed, settings, seed=0, folder=tmp_path, on_step=lambda: None)
    assert [left for left, _ in seen] == list(range(30, 0, -1))
    assert seen[0][1] == ["labels", "x"]
    assert abs(model.weight.item() - 3) < 0.5


@pytest.mark.parametrize("shared", [False, True])
def test_a_trained_model_computes_as_it_did_before(tmp_path: Path, shared: bool) -> None:
    """Not in the precision of the training, which a model read from its folder knows nothing of."""
    model: nn.Module = MatchedLanguageModel(
        MatchedConfig(architecture="conv", vocab_size=50, width=16)
    )
    if shared:
        model = share_from_embedding(model, ShareConfig(tie="all"))
    before = vars(model).get("forward")
    ids = torch.arange(20).reshape(2, 10)
    rows = cast(Dataset[Any], [{"input_ids": row, "labels": row} for row in ids])
    settings = TrainSettings(steps=2, batch_size=2, precision="bf16")
    train(model, Feed(rows=rows), settings, seed=0, folder=tmp_path, on_step=lambda: None)
    assert vars(model).get("forward") is before
    with torch.no_grad():
        logits = model.eval()(ids)["logits"]
    plain = MatchedLanguageModel(MatchedConfig(architecture="conv", vocab_size=50, width=16))
    plain.load_state_dict(materialize(model).state_dict() if shared else model.state_dict())
    torch.testing.assert_close(logits, plain.eval()(ids)["logits"])


def test_a_training_that_diverged_warns_once_and_continues(tmp_path: Path) -> None:
    made = 0

    def objective(model: nn.Module, batch: Batch, remaining: int) -> Tensor:
        loss: Tensor = model(batch["x"]).sum()
        return loss * float("nan") if remaining <= 3 else loss

    def on_step() -> None:
        nonlocal made
        made += 1

    rows = cast(Dataset[Any], [{"x": torch.randn(4)} for _ in range(8)])
    settings = TrainSettings(steps=6, batch_size=2, log_every=1)
    feed, saving = Feed(rows=rows, objective=objective), Saving(checkpoints=False, resume=False)
    given: Any = {"seed": 0, "folder": tmp_path, "on_step": on_step, "saving": saving}
    with pytest.warns(DivergedWarning, match="is nan at step 4: .*`hidden_lr`") as seen:
        trained = train(nn.Linear(4, 1), feed, settings, **given)
    assert len([w for w in seen if w.category is DivergedWarning]) == 1
    assert (made, len(trained.curve)) == (6, 6)


def test_a_feed_may_slow_its_last_steps_down(tmp_path: Path) -> None:
    rows = cast(Dataset[Any], [{"x": torch.ones(1)}] * 4)
    model = nn.Linear(1, 1, bias=False)
    settings = TrainSettings(steps=8, learning_rate=0.1, hidden_lr=1.0, warmup=0, schedule="linear")
    feed = Feed(rows=rows, rate=lambda left: 0.5 if left <= 3 else 1.0)
    arguments = make_arguments(settings, seed=0, folder=tmp_path)
    trainer = SharingTrainer(model=model, args=arguments, hidden_lr=1.0, feed=feed)
    trainer.create_optimizer_and_scheduler(8)
    assert trainer.lr_scheduler is not None and trainer.optimizer is not None
    found = []
    for _ in range(8):
        found.append(trainer.lr_scheduler.get_last_lr()[0])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    expected = [0.1 * (8 - step) / 8 * (0.5 if 8 - step <= 3 else 1) for step in range(8)]
    assert found == pytest.approx(expected)


class Summed(nn.Module):
    """Its loss is the mean over the labels of a batch, and it takes any argument in silence."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, labels: Tensor, **_: Any) -> dict[str, Tensor]:
        kept = labels != -100
        errors = (x * self.weight - labels).square() * kept
        return {"loss": errors.sum() / kept.sum(), "logits": x}


@pytest.mark.parametrize("own", [False, True], ids=["model", "objective"])
@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulated_batches_count_by_their_labels(
    tmp_path: Path, own: bool, accumulation: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    rows = []
    for count in (1, 3, 2, 1):
        labels = torch.randn(3, generator=draw)
        labels[count:] = -100
        rows.append({"x": torch.randn(3, generator=draw), "labels": labels})

    def objective(model: nn.Module, batch: Batch, _: int) -> Tensor:
        return cast(Tensor, model(**batch)["loss"])

    def first_update(size: int, accumulation: int) -> Mapping[str, float]:
        feed = Feed(rows=cast(Dataset[Any], rows), objective=objective if own else None)
        settings = TrainSettings(steps=1, batch_size=size, accumulation=accumulation)
        done = train(
            Summed(),
            feed,
            settings,
            seed=0,
            folder=tmp_path,
            on_step=lambda: None,
            saving=Saving(checkpoints=False),
        )
        return done.curve[0]

    whole, parts = first_update(4, 1), first_update(4 // accumulation, accumulation)
    for name in ("loss", "grad_norm"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)


def test_a_classifier_of_transformers_accumulates_to_the_same_update(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    rows = cast(
        Dataset[Any],
        [{"input_ids": torch.arange(i, i + 5), "labels": torch.tensor(i % 2)} for i in range(8)],
    )
    found = []
    for size, accumulation in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        settings = TrainSettings(steps=1, batch_size=size, accumulation=accumulation)
        done = train(
            BertForSequenceClassification(config),
            Feed(rows=rows),
            settings,
            seed=0,
            folder=tmp_path,
            on_step=lambda: None,
            saving=Saving(checkpoints=False),
        )
        found.append(done.curve[0])
    for name in ("loss", "grad_norm"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-4)
