"""LAMB against steps by hand, and schedules with a minimum learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.errors import InvalidValueError
from embshare.models.matched import MatchedConfig, MatchedLanguageModel
from embshare.tasks.optimizing import decay_by_layer, make_lamb
from embshare.tasks.settings import Schedule, TrainSettings
from embshare.tasks.trainer import SharingTrainer
from embshare.tasks.training import make_arguments

LAMB = TrainSettings(
    optimizer="lamb", learning_rate=0.01, betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.1
)


def by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], decay: float) -> torch.Tensor:
    """The rule of ELC-BERT's and LTG-BERT's training, written out."""
    (one, two), eps, lr = LAMB.betas, LAMB.epsilon, LAMB.learning_rate
    w, m, v = weight.double().clone(), torch.zeros(()).double(), torch.zeros(()).double()
    for step, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        m, v = one * m + (1 - one) * g, two * v + (1 - two) * g * g
        update = (m / (1 - one**step)) / ((v / (1 - two**step)).sqrt() + eps)
        ratio = 1.0
        if decay > 0:
            update = update + decay * w
            ratio = float(w.norm() / update.norm())
        w = w - lr * ratio * update
    return w.float()


@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_lamb_steps_are_those_by_hand(decay: float) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3))
    before, gradients = weight.detach().clone(), [torch.randn(4, 3) * 9 for _ in range(3)]
    optimizer = make_lamb([{"params": [weight], "lr": 0.01, "weight_decay": decay}], LAMB)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), by_hand(before, gradients, decay))


def test_without_decay_lamb_is_adam() -> None:
    torch.manual_seed(0)
    one, two = (nn.Parameter(torch.ones(5)) for _ in range(2))
    lamb = make_lamb([{"params": [one], "lr": 0.01, "weight_decay": 0.0}], LAMB)
    adam = torch.optim.Adam([two], lr=0.01, betas=LAMB.betas, eps=LAMB.epsilon)
    for _ in range(4):
        one.grad = torch.randn(5)
        two.grad = one.grad.clone()
        lamb.step()
        adam.step()
    torch.testing.assert_close(one, two)


def trainer(settings: TrainSettings, folder: Path) -> SharingTrainer:
    config = MatchedConfig(architecture="conv", vocab_size=300, width=16, layers=2)
    model = embshare.share_from_embedding(
        MatchedLanguageModel(config), embshare.ShareConfig(tie="all")
    )
    return SharingTrainer(
        model=model,
        args=make_arguments(settings, seed=0, folder=folder),
        hidden_lr=settings.hidden_lr,
        settings=settings,
    )


def test_the_trainer_makes_lamb_over_groups(tmp_path: Path) -> None:
    settings = LAMB.model_copy(update={"table_decay": 0.0, "hidden_lr": 0.5})
    optimizer = trainer(settings, tmp_path).create_optimizer()
    assert type(optimizer).__name__ == "Lamb"
    found = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found == {"table": (0.01, 0.0), "hidden": (0.005, 0.1), "vectors": (0.01, 0.0)}
    assert all(group["eps"] == 1e-6 for group in optimizer.param_groups)


def test_adam_takes_epsilon_and_decay_of_tables(tmp_path: Path) -> None:
    settings = TrainSettings(epsilon=1e-6, table_decay=3.0, weight_decay=0.1)
    optimizer = trainer(settings, tmp_path).create_optimizer()
    found = {g["name"]: g["weight_decay"] for g in optimizer.param_groups}
    assert found["table"] == pytest.approx(0.3) and found["hidden"] == pytest.approx(0.1)
    assert all(group["eps"] == 1e-6 for group in optimizer.param_groups)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_rates_rise_and_come_down_to_the_floor(
    tmp_path: Path, schedule: Schedule, floor: float
) -> None:
    settings = TrainSettings(
        steps=100, warmup=0.2, schedule=schedule, floor=floor, learning_rate=1.0
    )
    made = trainer(settings, tmp_path)
    made.create_optimizer_and_scheduler(100)
    assert made.optimizer is not None and made.lr_scheduler is not None
    rates = []
    for _ in range(101):
        rates.append(made.optimizer.param_groups[0]["lr"])
        made.optimizer.step()
        made.lr_scheduler.step()
    assert rates[:21] == pytest.approx([step / 20 for step in range(21)])
    half = 0.5
    assert rates[60] == pytest.approx(floor + (1 - floor) * half)
    assert rates[100] == pytest.approx(floor)


def factor(settings: TrainSettings, folder: Path) -> Callable[[int], float]:
    """From a step to the factor of the peak learning rate."""
    made = trainer(settings, folder)
    made.create_optimizer_and_scheduler(settings.steps)
    found: Callable[[int], float] = made.lr_scheduler.lr_lambdas[0]  # type: ignore[union-attr]
    return found


def test_the_cosine_is_elc_berts(tmp_path: Path) -> None:
    steps, warmup = 15_625, 250
    found = factor(TrainSettings(steps=steps, warmup_steps=warmup, floor=0.1), tmp_path)
    for step in (250, 1000, 8000, 15_625):
        share = (step - warmup) / (steps - warmup)
        official = max(0.1, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
        assert found(step) == pytest.approx(official)
    assert found(125) == 0.5


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_warm_up_may_be_as_long_as_the_run(
    tmp_path: Path, schedule: Schedule, steps: int
) -> None:
    settings = TrainSettings(steps=steps, warmup_steps=steps, schedule=schedule, floor=0.1)
    rates = [factor(settings, tmp_path)(step) for step in range(steps + 1)]
    assert all(0 <= rate <= 1 for rate in rates)


def test_a_floor_needs_a_schedule_that_comes_down() -> None:
    with pytest.raises(InvalidValueError, match="`floor` must be 0 where `schedule` is 'constant'"):
        TrainSettings(schedule="constant", floor=0.1)


def classifier(**sharing: object) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=40, num_hidden_layers=3, max_position_embeddings=8, **sizes)
    )
    if not sharing:
        return model
    return embshare.share_from_embedding(model, embshare.ShareConfig(**sharing))  # type: ignore[arg-type]


def test_rates_fall_from_the_head_to_the_embeddings() -> None:
    """ELECTRA's rule for three layers: 0.8 to the power of 5 minus the depth."""
    model = classifier()
    groups = embshare.parameter_groups(model, lr=2.0, hidden_lr=0.5)
    found = decay_by_layer(model, groups, 0.8)
    rates = {p: group["lr"] for group in found for p in group["params"]}
    names = dict(model.named_parameters())
    assert rates.keys() == set(names.values())
    for name, rate in (
        ("bert.embeddings.word_embeddings.weight", 2.0 * 0.8**5),
        ("bert.embeddings.LayerNorm.bias", 2.0 * 0.8**5),
        ("bert.encoder.layer.0.output.dense.bias", 2.0 * 0.8**4),
        ("bert.encoder.layer.2.output.dense.weight", 1.0 * 0.8**2),
        ("bert.pooler.dense.weight", 1.0),
        ("classifier.bias", 2.0),
    ):
        assert rates[names[name]] == pytest.approx(rate), name


def test_a_decay_of_one_changes_no_group() -> None:
    model = classifier()
    groups = embshare.parameter_groups(model, lr=2.0)
    assert decay_by_layer(model, groups, 1.0) is groups


@pytest.mark.parametrize(
    ("model", "finding"),
    [
        (lambda: classifier(tie="all"), "its layers are shared"),
        (lambda: nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 2)), "no layer has a number"),
    ],
)
def test_rates_of_layers_that_are_none_cannot_fall(model: Any, finding: str) -> None:
    made = model()
    with pytest.raises(InvalidValueError, match=f"`layer_decay` must be 1 .* {finding}"):
        decay_by_layer(made, embshare.parameter_groups(made, lr=1.0), 0.8)


def test_the_trainer_lets_rates_fall(tmp_path: Path) -> None:
    settings = TrainSettings(steps=4, layer_decay=0.5, learning_rate=1.0)
    trainer = SharingTrainer(
        model=classifier(),
        args=make_arguments(settings, seed=0, folder=tmp_path),
        hidden_lr=1.0,
        settings=settings,
    )
    rates = {group["lr"] for group in trainer.create_optimizer().param_groups}
    assert rates == {0.5**power for power in (0, 2, 3, 4, 5)}


def test_a_warm_up_of_so_many_steps(tmp_path: Path) -> None:
    settings = TrainSettings(steps=400, warmup_steps=50)
    assert make_arguments(settings, seed=0, folder=tmp_path).warmup_steps == 50
    assert TrainSettings.from_json(settings.to_json()) == settings
    with pytest.raises(InvalidValueError, match="`warmup` and `warmup_steps` exclude each other"):
        TrainSettings(warmup=0.1, warmup_steps=50)
