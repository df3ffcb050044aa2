"""The task from text to a trained model, on tiny ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AlbertConfig, AutoTokenizer, BertConfig

import embshare
from embshare.errors import EmbshareError, InvalidValueError
from embshare.models.convbert import ConvBertConfig
from embshare.models.matched import ARCHITECTURES
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.errors import DataError
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.data import open_text
from embshare.tasks.pretraining.task import PreparedPretraining, Pretraining
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.loading import load_run
from embshare.tasks.settings import TrainSettings
from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.training import counted

VEPS = embshare.ShareConfig(tie="all", anchor=2.0)


def tiny(folder: Path | None, **changes: Any) -> PretrainingConfig:
    training: dict[str, Any] = {"steps": 60, "batch_size": 8, "save_every": 20}
    fields: dict[str, Any] = {
        "data": folder,
        "vocabulary_size": 160,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "dropout": 0.0,
        "length": 18,
    }
    training |= changes.pop("training", {})
    return PretrainingConfig(**{**fields, **changes, "training": TrainSettings(**training)})


def prepare(folder: Path | None, **changes: Any) -> PreparedPretraining:
    return Pretraining(tiny(folder, **changes)).prepare()


def architecture(folder: Path, kind: str) -> str:
    """A folder of transformers with a configuration alone."""
    sizes: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 18,
    }
    configs: dict[str, Any] = {
        "bert": lambda: BertConfig(**sizes),
        "albert": lambda: AlbertConfig(embedding_size=8, **sizes),
        "convbert": lambda: ConvBertConfig(
            **{**sizes, "num_attention_heads": 4},
            embedding_size=16,
            conv_kernel_size=3,
            generator_hidden_ratio=0.5,
            max_predictions=4,
        ),
    }
    configs[kind]().save_pretrained(folder / kind)
    return str(folder / kind)


class Uniform(nn.Module):
    """Knows nothing."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.bias.sum(), "logits": self.bias.expand(*input_ids.shape, -1)}


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(folder: Path) -> None:
    task = prepare(folder)
    found = task.evaluate(Uniform(len(task.tokenizer)), folder=folder)
    assert found["masked_perplexity"] == pytest.approx(len(task.tokenizer), rel=1e-6)
    per_row = 2  # of 16, less an end of a document at most
    assert found["masked_tokens"] == per_row * (len(task.valid) // 16)


@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize("share", [None, VEPS])
def test_a_model_learns(folder: Path, tmp_path: Path, model: str, share: Any) -> None:
    result = run(
        RunConfig(
            task="pretraining",
            model=model,
            share=share,
            settings=tiny(folder, training={"steps": 100}),
            out=tmp_path / "run",
        )
    )
    assert result.metric == "masked_perplexity"
    # 14 words of one frequency; a shared model of this size has learned little more by then
    assert result.metrics["masked_perplexity"] < (9 if share is None else 14)
    assert 0 < result.metrics["masked_accuracy"] <= 1
    samples = json.loads((tmp_path / "run" / "samples" / "samples.json").read_text())
    assert "[MASK]" in samples[0]["given"]
    assert samples[0]["reference"].count(",") == samples[0]["prediction"].count(",")
    described: Any = result.data
    assert described["tokens"]["train"] > 5 * described["tokens"]["valid"] / 2


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_models_of_transformers_are_trained_saved_and_used(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    settings = tiny(folder, training={"learning_rate": 5e-3, "accumulation": 2, "batch_size": 4})
    out = tmp_path / "run"
    config = RunConfig(
        task="pretraining",
        model=architecture(tmp_path, kind),
        share=embshare.ShareConfig(tie="all") if kind == "bert" else None,
        settings=settings,
        out=out,
    )
    result = run(config)
    assert 0 < result.training_loss < 6  # in nats of one batch, whatever the accumulation
    finished = load_run(out)
    again = finished.evaluate({}, folder=tmp_path)
    assert again["masked_perplexity"] == pytest.approx(result.metrics["masked_perplexity"])
    tokenizer = AutoTokenizer.from_pretrained(out / "processor")
    assert tokenizer.mask_token_id == finished.model.config.mask_token_id  # type: ignore[union-attr]
    (filled, unchanged) = finished.processor.predict(
        finished.model, ["the quick [MASK] foxes", "lazy dogs"]
    )
    assert "[MASK]" not in filled and filled.split()[:2] == ["the", "quick"]
    assert unchanged == "lazy dogs"


def test_convbert_replaces_tokens(folder: Path, tmp_path: Path) -> None:
    settings = tiny(folder, objective="replaced", training={"learning_rate": 5e-3})
    out = tmp_path / "run"
    result = run(
        RunConfig(
            task="pretraining",
            model=architecture(tmp_path, "convbert"),
            settings=settings,
            out=out,
        )
    )
    assert {"masked_perplexity", "replaced_accuracy", "replaced_f1"} <= set(result.metrics)
    assert 0 < result.metrics["replaced_share"] < 0.16
    finished = load_run(out)
    again = finished.evaluate({}, folder=tmp_path)
    assert again == pytest.approx(result.metrics)
    (filled,) = finished.processor.predict(finished.model, ["the quick [MASK]"])
    assert "[MASK]" not in filled


def losses(out: Path) -> list[float]:
    return [point["loss"] for point in json.loads((out / "curve.json").read_text())]


@pytest.mark.parametrize("late", [None, 50])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, late: int | None
) -> None:
    class KilledError(Exception):
        pass

    def kill() -> None:
        steps.append(1)
        if len(steps) == 45:
            raise KilledError

    settings = tiny(folder, dropout=0.2, late_length=late, late_from=0.5, masking="spans")
    configs = [
        RunConfig(task="pretraining", model="conv", settings=settings, out=tmp_path / name)
        for name in ("whole", "cut")
    ]
    steps: list[int] = []
    whole = run(configs[0])
    with pytest.raises(KilledError):
        run(configs[1], on_step=kill)
    cut = run(configs[1], resume=True)
    assert cut.metrics == whole.metrics
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_the_cache_is_read_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare(folder, cache=cache)
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.arrow")}
    second = prepare(folder, cache=cache)
    assert len(times) == 2
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.arrow")} == times
    assert second.describe() == first.describe()
    prepare(folder, cache=cache, max_train_tokens=200)
    assert len(list(cache.rglob("*=train-*/*/*.arrow"))) == 2


def test_a_data_set_that_has_changed_is_not_taken_from_the_cache(
    folder: Path, tmp_path: Path
) -> None:
    prepare(folder).processor.save(tmp_path / "words")

    def valid(words: str) -> list[int]:
        (tmp_path / "set").mkdir(exist_ok=True)
        for side in ("train", "validation"):
            row = json.dumps({"text": words})
            (tmp_path / "set" / f"{side}.jsonl").write_text(f"{row}\n" * 20)
        fields: dict[str, Any] = {
            "data": f"hub:{tmp_path / 'set'}",
            "tokenizer": str(tmp_path / "words"),
            "cache": tmp_path / "cache",
        }
        found: list[int] = prepare(None, **fields).valid.read().tolist()
        return found

    before = valid("the quick brown foxes")
    assert valid("the quick brown foxes jumped") != before


def test_a_text_that_nothing_tells_the_state_of_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(open_text(tiny(folder)), fingerprint=None)
    monkeypatch.setattr("embshare.tasks.pretraining.task.open_text", lambda _: found)
    task = prepare(folder, cache=tmp_path / "cache")
    assert task.scratch is not None and task.train is not None and len(task.train) > 0
    assert not (tmp_path / "cache").exists()


def test_a_set_that_is_held_out_is_bounded_with_the_other(folder: Path, tmp_path: Path) -> None:
    def counts(place: Path, **changes: Any) -> tuple[int, int]:
        task = prepare(place, **changes)
        assert task.train is not None
        return len(task.train), len(task.valid)

    (tmp_path / "one").mkdir()
    text = (folder / "train.txt").read_text()
    (tmp_path / "one" / "a.txt").write_text(text * 4)
    held = {"held_out": 5}
    whole = counts(tmp_path / "one", **held)
    assert counts(tmp_path / "one", **held, max_train_tokens=1_000) == (1_000, 250)
    assert counts(tmp_path / "one", **held, max_train_tokens=30) == (30, 18)  # a row's length
    assert counts(tmp_path / "one", **held, max_valid_tokens=90) == (whole[0], 90)
    own = counts(folder)
    assert own[1] > 100
    assert counts(folder, max_train_tokens=100) == (100, own[1])  # scores are of the same text
    assert counts(folder, max_valid_tokens=70) == (own[0], 70)


def test_tokens_go_when_the_task_does(folder: Path) -> None:
    task = prepare(folder)
    path = task.valid.path
    assert path.is_file()
    del task
    assert not path.exists()


def test_lamb_trains(folder: Path, tmp_path: Path) -> None:
    training = {
        "optimizer": "lamb",
        "learning_rate": 0.02,
        "hidden_lr": 1.0,
        "floor": 0.1,
        "steps": 100,
    }
    settings = tiny(folder, masking="ltg_spans", training=training)
    config = RunConfig(task="pretraining", model="conv", settings=settings, out=tmp_path / "run")
    assert run(config).metrics["masked_perplexity"] < 16


def test_building_leaves_the_random_state_alone(folder: Path, tmp_path: Path) -> None:
    task, name = prepare(folder), architecture(tmp_path, "bert")
    state = torch.get_rng_state()
    for model in ("lstm", name):
        task.processor.build(model, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("bert", {"length": 19}, "does not read a row of 19 tokens .*Lower `length`"),
        ("bert", {"objective": "replaced"}, "does not replace tokens itself.*objective='masked'"),
        ("conv", {"objective": "replaced"}, "has no generator.*objective='masked', or a ConvBERT"),
        ("embshare:convbert-small", {}, "it detects replaced tokens.*objective='replaced'"),
    ],
)
def test_a_model_that_cannot_is_refused_before_training(
    folder: Path, tmp_path: Path, model: str, changes: dict[str, Any], message: str
) -> None:
    name = architecture(tmp_path, model) if model == "bert" else model
    with pytest.raises(ModelNotForTaskError, match=message):
        prepare(folder, **changes).processor.build(name, seed=0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"length": 20_000}, DataError, "at least 19,998 tokens in its training set, .*, but has"),
        (
            {"length": 1200},
            DataError,
            "its validation set, .*longer text, or lower `length`.$",
        ),
        (
            {"late_length": 145},
            InvalidValueError,
            "`late_length` must be at most the 144 tokens of a batch, .* but is 145: raise",
        ),
        ({"late_length": 18}, InvalidValueError, r"`late_length` must be above `length` \(18\)"),
        ({"random_part": 0.3}, InvalidValueError, "must be 1 together at most"),
        (
            {"masking": "ltg_spans", "most_masked": 3},
            InvalidValueError,
            "`most_masked` must be left out",
        ),
    ],
)
def test_what_cannot_be_is_told_before_training(
    folder: Path, changes: dict[str, Any], error: type[EmbshareError], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(folder, **changes)


@pytest.mark.parametrize(
    ("held_out", "hint"),
    [(3, "lower `length`, or lower `held_out` so that"), (2, "longer text, or lower `length`.$")],
)
def test_a_set_is_held_out_from_pieces_if_there_are_any(
    tmp_path: Path, held_out: int, hint: str
) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox\n" * 60)
    with pytest.raises(DataError, match=f"its validation set, .*has 0. .*{hint}"):
        prepare(tmp_path, held_out=held_out, vocabulary_size=60)


def test_a_trained_model_is_scored_without_the_training_set(folder: Path, tmp_path: Path) -> None:
    whole = prepare(folder)
    task = Pretraining(tiny(folder, cache=tmp_path / "cache"))
    scored = task.prepare(whole.processor)
    assert scored.train is None
    (path,) = (tmp_path / "cache").rglob("*.arrow")
    assert path == scored.valid.path and "=valid-" in str(path)
    assert scored.describe() == {**whole.describe(), "tokens": {"valid": len(whole.valid)}}
    model = Uniform(len(whole.tokenizer))
    assert scored.evaluate(model, folder=folder) == whole.evaluate(model, folder=folder)
    assert task.prepare(whole.processor, train=True).train is not None


@pytest.mark.parametrize("epochs", [0.5, 3.0])
@pytest.mark.parametrize("batch_size", [2, 4, 8])
def test_rows_become_longer_in_any_number_of_epochs(
    folder: Path, batch_size: int, epochs: float
) -> None:
    config = PretrainingConfig(
        data=folder,
        vocabulary_size=160,
        length=18,
        late_length=36,
        training=TrainSettings(epochs=epochs, batch_size=batch_size),
    )
    feed = Pretraining(config).prepare().feed()
    assert feed.batches is not None
    batches: Any = feed.batches(0)
    steps = counted(config.training, feed).steps
    lengths = []
    for number in range(math.ceil(epochs)):
        batches.set_epoch(number)
        lengths += [len(feed.rows[batch[0]].tokens) for batch in batches]
    late = lengths[:steps].count(36)
    assert late == pytest.approx(0.1 * steps, abs=0.5) and late >= 1


def test_words_need_a_tokenizer_that_tells_them(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "foxes"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named = dict(zip(("pad", "unk", "cls", "sep", "mask"), words[:5], strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{kind}_token": word for kind, word in named.items()}
    ).save_pretrained(tmp_path / "words")
    message = "must be .* with tokens that mark where words begin, but has none"
    with pytest.raises(TokenizerError, match=message):
        prepare(folder, masking="words", tokenizer=str(tmp_path / "words"))
    assert len(prepare(folder, tokenizer=str(tmp_path / "words")).tokenizer) == 7


def test_the_builtin_text_is_the_default() -> None:
    described: Any = prepare(None, vocabulary_size=500).describe()
    assert described["text"] == "pydoc_data.topics"
    assert described["tokens"]["train"] > 60_000


def test_settings_of_earlier_versions_are_read() -> None:
    former = PretrainingConfig.from_json('{"most_symbols": 500, "most_valid_symbols": 60}')
    assert former == PretrainingConfig(max_train_tokens=500, max_valid_tokens=60)
