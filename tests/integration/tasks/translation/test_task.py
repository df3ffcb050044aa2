"""The task from files to scores, on tiny models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import embshare
from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture, MatchedSeq2Seq
from embshare.tasks.decoding import NoFiniteScoreError
from embshare.tasks.errors import MissingDataError
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.loading import load_run
from embshare.tasks.training import train
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import numbered_lines
from embshare.tasks.translation.subwords import Subwords
from embshare.tasks.translation.task import PreparedTranslation, Translation
from tests._support.translation_data import PAIRS, write_folder

# What the format of checkpoints makes transformers say; the test is about what is in them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),
    pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning"),  # toys
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def tiny(folder: Path, **changes: Any) -> TranslationConfig:
    fields: dict[str, Any] = {
        "data": folder,
        "vocabulary_size": 300,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "dropout": 0.0,
        "batch_tokens": 200,
        "max_length": 32,
        "beam": 2,
        "training": {"steps": 160, "learning_rate": 1e-2, "hidden_lr": 1.0},
    }
    return TranslationConfig(**{**fields, **changes})


def fit(task: PreparedTranslation, architecture: str, folder: Path, shared: bool = False) -> Any:
    model = task.processor.build(architecture, seed=0)
    if shared:
        embshare.share_from_embedding(model, embshare.ShareConfig(anchor=2.0))
    train(model, task.feed(), task.training, seed=0, folder=folder, on_step=lambda: None)
    return model


@pytest.mark.parametrize(
    ("architecture", "shared", "subwords"),
    [(a, s, "joint") for a in ARCHITECTURES for s in (False, True)]
    + [("conv", True, "separate"), ("attention", False, "separate")],
)
def test_a_model_learns_a_language(
    folder: Path, tmp_path: Path, architecture: Architecture, shared: bool, subwords: str
) -> None:
    task = Translation(tiny(folder, subwords=subwords)).prepare()
    model = fit(task, architecture, tmp_path, shared)
    metrics = task.evaluate(model, folder=tmp_path)
    assert metrics["bleu"] > 45, metrics
    assert metrics["chrf"] > 60
    assert metrics["valid_loss"] < 0.5
    lines = list(
        task.processor.predict(model, ["two and three are here", "", "  five  and one are here "])
    )
    assert lines[1] == ""
    assert all(lines[place].endswith(" sind hier") for place in (0, 2))
    assert (tmp_path / "test.de").read_text().count("\n") == 6
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert {"source": PAIRS[10][0], "reference": PAIRS[10][1]}.items() <= samples[0].items()
    scores = json.loads((tmp_path / "scores.json").read_text())
    described: Any = task.describe()
    assert {k: v["signature"] for k, v in scores.items()} == described["signatures"]["test"]
    assert scores["bleu"]["value"] == metrics["bleu"]


def test_validation_is_not_smoothed(folder: Path, tmp_path: Path) -> None:
    plain, smoothed = (
        Translation(tiny(folder, label_smoothing=part)).prepare() for part in (0.0, 0.5)
    )
    model = plain.processor.build("conv", seed=0)
    losses = [task.evaluate(model, folder=tmp_path)["valid_loss"] for task in (plain, smoothed)]
    assert losses[0] == losses[1]
    rows = [plain._encoded("valid")[index] for index in range(5)]
    with torch.inference_mode():
        own = model.eval()(**plain.feed().collate(rows))["loss"]  # type: ignore[misc]
    assert losses[0] == pytest.approx(float(own), rel=1e-5)


def test_metrics_of_other_splits_have_their_names(folder: Path, tmp_path: Path) -> None:
    task = Translation(tiny(folder, evaluate_on=("test", "valid"), beam=1)).prepare()
    model = task.processor.build("conv", seed=0)
    metrics = task.evaluate(model, folder=tmp_path)
    names = {"bleu", "chrf", "valid_bleu", "valid_chrf", "valid_loss", "valid_perplexity"}
    assert set(metrics) == names
    assert task.metric.name in metrics
    assert (tmp_path / "valid.de").exists()


def test_a_model_is_scored_on_a_test_set_alone(folder: Path, tmp_path: Path) -> None:
    settings = tiny(folder, training={"steps": 2})
    run(RunConfig(task="translation", model="lstm", settings=settings, out=tmp_path / "run"))
    (folder / "train.de").unlink()  # evaluation needs no training set
    (folder / "train.en").unlink()
    found = load_run(tmp_path / "run")
    with pytest.raises(embshare.errors.EmbshareError, match="must be a folder with the split `tr"):
        Translation(tiny(folder)).prepare()
    assert "bleu" in found.evaluate({"beam": 1}, folder=tmp_path)


def test_a_model_is_evaluated_without_a_validation_set(folder: Path, tmp_path: Path) -> None:
    settings = tiny(folder, training={"steps": 2})
    run(RunConfig(task="translation", model="conv", settings=settings, out=tmp_path / "run"))
    found, alone = load_run(tmp_path / "run"), tmp_path / "alone"
    assert {"bleu", "valid_loss"} <= found.evaluate({"beam": 1}, folder=tmp_path).keys()
    alone.mkdir()
    for lang in ("en", "de"):
        (folder / f"test.{lang}").rename(alone / f"test.{lang}")
    assert set(found.evaluate({"data": alone, "beam": 1}, folder=tmp_path)) == {"bleu", "chrf"}
    with pytest.raises(MissingDataError, match="with the split `valid` as"):
        found.evaluate({"data": alone, "evaluate_on": ("test", "valid")}, folder=tmp_path)


def test_lines_to_translate_are_read_as_those_of_files(folder: Path, tmp_path: Path) -> None:
    text = "one\u00a0and  two \t are\u2028here"
    task = Translation(tiny(folder)).prepare()
    given: list[str] = []
    subwords = task.processor.subwords
    assert isinstance(subwords, Subwords)

    class Recording:
        def __getattr__(self, name: str) -> Any:
            return getattr(subwords, name)

        def encode_source(self, lines: Any) -> Any:
            given.extend(lines)
            return subwords.encode_source(lines)

    recording: Any = Recording()
    translator = replace(task.processor.translator(task.config), subwords=recording)
    model = task.processor.build("conv", seed=0)
    list(translator.stream(model, [f"  {text}\n", "one\r\ntwo", "one\n\ntwo"]))
    (tmp_path / "lines").write_text(f"  {text}\n", encoding="utf-8", newline="")
    assert given == [numbered_lines(tmp_path / "lines")[0][1], "one two", "one  two"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_translation_is_one_line(folder: Path, end: str) -> None:
    task = Translation(tiny(folder)).prepare()
    subwords = task.processor.subwords

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(subwords, name)

        def decode(self, tokens: Any) -> str:
            return f"eins{end}zwei"

    broken: Any = Broken()
    translator = replace(task.processor.translator(task.config), subwords=broken)
    model = task.processor.build("conv", seed=0)
    assert translator.all(model, ["one", "two"]) == ["eins zwei"] * 2


def test_a_model_that_has_diverged_is_an_error_in_translation(folder: Path, tmp_path: Path) -> None:
    for beam in (1, 3):
        task = Translation(tiny(folder, beam=beam)).prepare()
        model = task.processor.build("attention", seed=0)
        torch.nn.init.constant_(model.get_parameter("embedding.weight"), torch.nan)
        with pytest.raises(NoFiniteScoreError, match="Its training has diverged: lower the lea"):
            task.evaluate(model, folder=tmp_path)


def write_transformer(folder: Path) -> Path:
    """Write a tiny T5 with a word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config

    words = sorted({word for pair in PAIRS for side in pair for word in side.split()})
    ids = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    start: dict[str, Any] = {"decoder_start_token_id": 0}
    T5Config(
        vocab_size=len(ids),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        **start,
    ).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_brings_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = write_transformer(tmp_path / "t5")
    settings = tiny(folder, tokenizer=str(model), training={"steps": 80, "learning_rate": 1e-2})
    config = RunConfig(
        task="translation",
        model=str(model),
        share=embshare.ShareConfig(),
        settings=settings,
        out=tmp_path / "run",
    )
    result = run(config)
    assert result.metrics["bleu"] > 20, result.metrics
    found = load_run(config.out)
    assert not isinstance(found.model, MatchedSeq2Seq)
    again = found.evaluate({}, folder=tmp_path)
    assert again["bleu"] == pytest.approx(result.metrics["bleu"])
    (line,) = found.processor.predict(found.model, ["two and three are here"])
    assert "und" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_lang": "de"}, "`source_lang` and `target_lang` must differ, but are both 'de'"),
        ({"batch_tokens": 31}, r"`batch_tokens` must be at least `max_length` \(32\)"),
        ({"evaluate_on": ("test", "test")}, "`evaluate_on` must name each split once"),
        ({"evaluate_on": ("train",)}, "`evaluate_on` must name each split once, and not the tr"),
        ({"evaluate_on": ()}, "`evaluate_on`"),
        ({"beams": 3}, "`beams`"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        tiny(folder, **changes)


def test_training_settings_are_merged_into_the_tasks_defaults() -> None:
    plain, given = TranslationConfig(), TranslationConfig(training={"steps": 9})  # type: ignore[arg-type]
    assert given.training == plain.training.model_copy(update={"steps": 9})
