"""The task from text to perplexity, on tiny models."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.perplexity import Perplexity, nats_per_row
from embshare.tasks.language_modelling.task import LanguageModelling, evaluate_perplexity
from embshare.tasks.language_modelling.windows import Windows
from embshare.tasks.settings import TrainSettings
from embshare.tasks.training import train

SENTENCE = "the quick brown fox jumps over the lazy dog and sits down\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, times in (("train", 60), ("valid", 3), ("test", 4)):
        (tmp_path / f"{split}.txt").write_text(SENTENCE * times)
    return tmp_path


def tiny(folder: Path, **changes: Any) -> LanguageModellingConfig:
    fields: dict[str, Any] = {
        "data": folder,
        "level": "word",
        "vocabulary_size": None,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "dropout": 0.0,
        "length": 12,
        "training": TrainSettings(steps=40, batch_size=4, learning_rate=2e-2, hidden_lr=1.0),
    }
    return LanguageModellingConfig(**{**fields, **changes})


class Uniform(nn.Module):
    """Knows nothing: every symbol is as likely as any other."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.bias.expand(*input_ids.shape, -1)
        return {"loss": logits.sum() * 0, "logits": logits}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_learns_a_text_that_repeats(folder: Path, architecture: Architecture) -> None:
    task = LanguageModelling(tiny(folder)).prepare()
    model, steps = task.processor.build(architecture, seed=0), []
    before = task.evaluate(model, folder=folder)
    training = train(
        model,
        task.feed(),
        task.training,
        seed=0,
        folder=folder,
        on_step=lambda: steps.append(1),
    )
    after = task.evaluate(model, folder=folder)
    assert len(steps) == len(training.step_ms) == task.training.steps == 40
    assert after[task.metric.name] < 2 < before[task.metric.name]
    assert after["symbols"] == 4 * 13
    assert after["valid_symbols"] == 3 * 13


def test_the_same_seed_is_the_same_run(folder: Path) -> None:
    task = LanguageModelling(tiny(folder, dropout=0.3)).prepare()

    def run() -> float:
        torch.rand(3)  # what happened before must not matter
        model = task.processor.build("conv", seed=5)
        feed, settings = task.feed(), task.training.model_copy(update={"steps": 20})
        train(model, feed, settings, seed=5, folder=folder, on_step=lambda: None)
        return task.evaluate(model, folder=folder)["perplexity"]

    assert run() == run()


@pytest.mark.parametrize("stride", [None, 5])
@pytest.mark.parametrize("count", [3, 12, 13, 200])
def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(
    tmp_path: Path, stride: int | None, count: int
) -> None:
    config = tiny(tmp_path, stride=stride)
    rows = Windows(
        torch.randint(0, 11, (count,)), start=0, length=12, stride=config.evaluation_stride
    )
    found = evaluate_perplexity(Uniform(11), rows, config.training, text="x" * 77, folder=tmp_path)
    assert found.symbols == count
    assert found.perplexity == pytest.approx(11, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(count * math.log2(11) / 77, rel=1e-6)


def test_sums_are_those_of_the_model_itself() -> None:
    logits, labels = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    labels[1, 2:] = -100
    nats, counts = nats_per_row(logits, labels).unbind(dim=1)
    assert counts.tolist() == [4, 1]
    logp = logits.log_softmax(-1)
    by_hand = -torch.stack([logp[0, t, labels[0, t + 1]] for t in range(4)]).sum()
    torch.testing.assert_close(nats[0], by_hand.double())
    torch.testing.assert_close(nats[1], -logp[1, 0, labels[1, 1]].double())


def test_a_hopeless_model_has_an_infinite_perplexity() -> None:
    found = Perplexity(nats=1e6, symbols=2, bytes=None)
    assert found.perplexity == math.inf
    assert found.bits_per_byte is None
    assert set(found.metrics()) == {"perplexity", "nats", "symbols"}


def test_the_builtin_text_gives_bits_per_byte(tmp_path: Path) -> None:
    settings = TrainSettings(steps=2, batch_size=2)
    task = LanguageModelling(
        LanguageModellingConfig(vocabulary_size=400, width=16, layers=1, training=settings)
    ).prepare()
    metrics = task.evaluate(task.processor.build("conv", seed=0), folder=tmp_path)
    described: Any = task.describe()
    bits = metrics["nats"] / math.log(2) / described["bytes"]["test"]
    assert metrics["bits_per_byte"] == pytest.approx(bits)
    assert metrics["symbols"] == described["symbols"]["test"]


def test_building_leaves_the_random_state_alone(folder: Path) -> None:
    task = LanguageModelling(tiny(folder)).prepare()
    state = torch.get_rng_state()
    task.processor.build("lstm", seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 13}, r"`stride` must be at most `length` \(12\)"),
        ({"level": "subword"}, "`vocabulary_size` must be a number where `level` is 'subword'"),
        ({"level": "letters"}, "`level`: .*'letters'"),
        ({"lenght": 3}, "`lenght`"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        tiny(folder, **changes)


def test_sizes_that_no_model_can_have_are_found_before_training(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`MatchedConfig\.width` must be a multiple of 2 \* h"):
        LanguageModelling(tiny(folder, width=18)).prepare()
