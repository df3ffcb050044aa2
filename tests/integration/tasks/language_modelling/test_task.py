"""The task from text to perplexity, on tiny models."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.errors import MissingDataError
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.data import Windows
from embshare.tasks.language_modelling.metrics import Perplexity, nats_per_row
from embshare.tasks.language_modelling.processor import continue_text, learn_processor
from embshare.tasks.language_modelling.task import LanguageModelling, evaluate_perplexity
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
    """Predicts a uniform distribution."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.bias.expand(*input_ids.shape, -1)
        return {"loss": logits.sum() * 0, "logits": logits}


class Echo(Uniform):
    """Always predicts the same token."""

    def __init__(self, vocabulary: int, token: float) -> None:
        super().__init__(vocabulary)
        self.token = int(token)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        logits = torch.zeros(*input_ids.shape, len(self.bias))
        logits[..., self.token] = 1
        return {"logits": logits}


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
    assert after["tokens"] == 4 * 13
    assert after["valid_tokens"] == 3 * 13


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
    assert found.tokens == count
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
    found = Perplexity(nats=1e6, tokens=2, bytes=None)
    assert found.perplexity == math.inf
    assert found.bits_per_byte is None
    assert set(found.metrics()) == {"perplexity", "nats", "tokens"}


def test_the_builtin_text_gives_bits_per_byte(tmp_path: Path) -> None:
    settings = TrainSettings(steps=2, batch_size=2)
    task = LanguageModelling(
        LanguageModellingConfig(vocabulary_size=400, width=16, layers=1, training=settings)
    ).prepare()
    metrics = task.evaluate(task.processor.build("conv", seed=0), folder=tmp_path)
    described: Any = task.describe()
    bits = metrics["nats"] / math.log(2) / described["bytes"]["test"]
    assert metrics["bits_per_byte"] == pytest.approx(bits)
    assert metrics["tokens"] == described["tokens"]["test"]


def test_building_leaves_the_random_state_alone(folder: Path) -> None:
    task = LanguageModelling(tiny(folder)).prepare()
    state = torch.get_rng_state()
    task.processor.build("lstm", seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 13}, r"`stride` must be at most `length` \(12\)"),
        ({"vocabulary_size": 0}, "`vocabulary_size`: .* greater than or equal to 1, but is 0"),
        ({"level": "subword", "vocabulary_size": 0}, "`vocabulary_size`: .*, but is 0"),
        ({"tokenizer": "gpt2"}, "`tokenizer` must be left out where `level` is 'word'.*'gpt2'"),
        ({"level": "letters"}, "`level`: .*'letters'"),
        ({"lenght": 3}, "`lenght`"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        tiny(folder, **changes)


def test_the_default_vocabulary_is_2000_subwords_or_every_word(folder: Path) -> None:
    given: dict[str, Any] = {"data": folder}
    assert LanguageModellingConfig(**given).vocabulary_size == 2000
    subwords = LanguageModellingConfig.from_json('{"level": "subword", "vocabulary_size": null}')
    assert subwords == LanguageModellingConfig()
    words = LanguageModellingConfig(**given, level="word")
    assert words.vocabulary_size is None
    assert LanguageModellingConfig.from_json(words.to_json()) == words
    (folder / "train.txt").write_text(" ".join(f"w{n}" for n in range(2500)) + "\n")
    assert len(LanguageModelling(words).prepare().tokenizer) == 2502
    fewer = LanguageModellingConfig(**given, level="word", vocabulary_size=2000)
    assert LanguageModellingConfig.from_json(fewer.to_json()).vocabulary_size == 2000
    assert len(LanguageModelling(fewer).prepare().tokenizer) == 2000


def test_a_report_has_the_part_of_words_that_are_unknown(folder: Path) -> None:
    (folder / "test.txt").write_text("the quick zebra runs\n")
    described: Any = LanguageModelling(tiny(folder)).prepare().describe()
    assert described["unknown"] == {"train": 0.0, "valid": 0.0, "test": 2 / 5}
    subwords = tiny(folder, level="subword", vocabulary_size=300)
    assert "unknown" not in LanguageModelling(subwords).prepare().describe()


def test_a_model_is_evaluated_without_a_training_set(folder: Path) -> None:
    task = LanguageModelling(tiny(folder))
    whole = task.prepare()
    model = whole.processor.build("conv", seed=0)
    before = whole.evaluate(model, folder=folder)
    (folder / "train.txt").unlink()
    both = task.prepare(whole.processor)
    assert set(both.tokens) == {"valid", "test"}
    assert both.evaluate(model, folder=folder) == before
    (folder / "valid.txt").unlink()
    alone = task.prepare(whole.processor)
    kept = {name: value for name, value in before.items() if not name.startswith("valid_")}
    assert alone.evaluate(model, folder=folder) == kept
    with pytest.raises(MissingDataError, match="with the split `train` as"):
        task.prepare(whole.processor, train=True)


def write_transformer(folder: Path, positions: int) -> Path:
    """A tiny GPT-2 without weights, with a tokenizer, as a folder of transformers."""
    from transformers import GPT2Config

    learned = learn_processor(LanguageModellingConfig(vocabulary_size=300), SENTENCE * 9)
    learned.save(folder)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2}
    GPT2Config(n_positions=positions, **sizes).save_pretrained(str(folder))
    return folder


def test_a_model_with_too_few_positions_is_found_before_training(folder: Path) -> None:
    name = str(write_transformer(folder / "gpt2", positions=12))
    settings = {"level": "subword", "tokenizer": name}
    with pytest.raises(ModelNotForTaskError) as caught:
        LanguageModelling(tiny(folder, **settings)).prepare().processor.build(name, seed=0)
    assert str(caught.value) == (
        f"`{name}` cannot be used for this task: it does not read a row of 13 tokens (index out "
        "of range in self), the 12 of `length` and one before. Lower `length` to one less than the "
        "model has positions, or further."
    )
    task = LanguageModelling(tiny(folder, **settings, length=11)).prepare()
    state = torch.get_rng_state()
    model = task.processor.build(name, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert task.evaluate(model, folder=folder)["tokens"] > 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the zebra  jumps", "the zebra  jumps lazy lazy"),
        ("zebra", "zebra lazy lazy"),
        ("the\tzebra ", "the\tzebra lazy lazy"),
        ("the dog", "the dog lazy lazy"),
        ("", "lazy lazy"),
    ],
)
def test_words_that_are_given_are_said_again_as_they_were(
    folder: Path, text: str, found: str
) -> None:
    tokenizer = LanguageModelling(tiny(folder)).prepare().tokenizer
    model = Echo(len(tokenizer), tokenizer.encode_prompt("lazy").item())
    assert continue_text(model, tokenizer, text, context=12, most=2) == found


@pytest.mark.parametrize("text", ["the zebra  jumps", "the\tzebra ", "fünf \u2028", ""])
def test_subwords_that_are_given_are_said_again_as_they_were(folder: Path, text: str) -> None:
    task = LanguageModelling(tiny(folder, level="subword", vocabulary_size=300)).prepare()
    tokenizer = task.tokenizer
    model = Echo(len(tokenizer), tokenizer.encode_prompt(" the").item())
    assert continue_text(model, tokenizer, text, context=12, most=2) == f"{text} the the"


def test_samples_are_cut_behind_what_was_given(folder: Path) -> None:
    lines = [f"zebra{n} giraffe{n} {SENTENCE.strip()} {SENTENCE}" for n in range(5)]
    (folder / "test.txt").write_text("".join(lines))
    task = LanguageModelling(tiny(folder)).prepare()
    fixed = Echo(len(task.tokenizer), task.tokenizer.encode_prompt("lazy").item())
    task._write_samples(fixed, folder)
    samples = json.loads((folder / "samples.json").read_text())
    assert [sample["prompt"].split()[0] for sample in samples] == ["zebra0", "zebra2", "zebra4"]
    for sample in samples:
        assert sample["prediction"] == " lazy" * 12
        assert sample["reference"].startswith(" dog and sits down the quick")


def test_sizes_that_no_model_can_have_are_found_before_training(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`MatchedConfig\.width` must be a multiple of 2 \* h"):
        LanguageModelling(tiny(folder, width=18)).prepare()
