"""Models of transformers: their loss on pairs, and the maximum length of sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from embshare.models.matched.embedding import IGNORED
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.errors import DataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.metrics import SmoothedLoss
from embshare.tasks.translation.processor import ANY, Positions, Translator, max_tokens
from embshare.tasks.translation.task import PreparedTranslation, Translation
from tests._support.translation_data import PAIRS, write_folder
from tests.integration.tasks.translation.transformer import SIZES, write_config

FSMT = {"langs": ["en", "de"], "src_vocab_size": 40, "tgt_vocab_size": 40}
SHORT, LONG = "one and two are here", "one and two are here " * 4


def prepared(folder: Path, model: Path, **changes: Any) -> PreparedTranslation:
    fields: dict[str, Any] = {
        "data": folder,
        "tokenizer": str(model),
        "width": 16,
        "heads": 2,
        "max_length": 60,
        "beam": 1,
        "training": {"steps": 2},
    }
    return Translation(TranslationConfig(**{**fields, **changes})).prepare()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def batch() -> dict[str, Tensor]:
    labels = torch.tensor([[8, 9, 10, 11, 2], [8, 2, IGNORED, IGNORED, IGNORED]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    return {
        "input_ids": torch.tensor([[5, 6, 7, 2], [5, 6, 2, 1]]),
        "attention_mask": mask,
        "labels": labels,
    }


@pytest.mark.parametrize("kind", ["Bart", "Blenderbot", "M2M100", "NllbMoe"])
def test_without_smoothing_it_is_the_loss_of_every_model(kind: str) -> None:
    import transformers

    changes = {"num_experts": 2} if kind == "NllbMoe" else {}
    config = getattr(transformers, f"{kind}Config")(**SIZES, **changes)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    given = batch()
    own = torch.nn.functional.cross_entropy(
        model(**given)["logits"].flatten(0, 1), given["labels"].flatten(), ignore_index=IGNORED
    )
    torch.testing.assert_close(SmoothedLoss(0.0)(model, given, 1), own)
    assert SmoothedLoss(0.1)(model, given, 1).isfinite()


def test_labels_stay_as_they_are() -> None:
    from transformers import FSMTConfig, FSMTForConditionalGeneration

    model, given = FSMTForConditionalGeneration(FSMTConfig(**{**SIZES, **FSMT})), batch()
    SmoothedLoss(0.1)(model, given, 1)
    assert given["labels"].tolist() == batch()["labels"].tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_model_that_gives_no_loss_is_refused(
    folder: Path, tmp_path: Path, smoothing: float
) -> None:
    model = write_config(tmp_path / "fsmt", "FSMTConfig", **FSMT)
    task = prepared(folder, model, label_smoothing=smoothing)
    with pytest.raises(ModelNotForTaskError, match="it gives no loss for a sentence and its tr"):
        task.processor.build(str(model), 0)
    model = write_config(tmp_path / "bart", "BartConfig", decoder_start_token_id=None)
    with pytest.raises(ModelNotForTaskError, match="it gives no loss for a sentence and its tr"):
        prepared(folder, model, label_smoothing=smoothing).processor.build(str(model), 0)


def lengthen(folder: Path, file: str, line: int) -> None:
    path = folder / file
    lines = path.read_text().splitlines()
    lines[line - 1] = "one " * 64
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("test.en", "test, source"),
        ("valid.en", "valid, source"),
        ("valid.de", "valid, target"),
    ],
)
def test_a_sentence_that_is_too_long_is_found_before_training(
    folder: Path, tmp_path: Path, file: str, place: str
) -> None:
    lengthen(folder, file, 2)
    model = write_config(tmp_path / "bart", "BartConfig")
    task = prepared(folder, model)
    with pytest.raises(DataError, match=r"must have at most 64 tokens.*, but has 65") as caught:
        task.processor.build(str(model), 0)
    assert (str(caught.value.path), caught.value.line) == (place, "row 2")
    task.processor.build("conv", 0)
    more = write_config(tmp_path / "more", "BartConfig", max_position_embeddings=65)
    task.processor.build(str(more), 0)


def test_what_no_model_reads_may_be_long_and_what_is_trained_on_may_not(
    folder: Path, tmp_path: Path
) -> None:
    lengthen(folder, "test.de", 2)
    lengthen(folder, "train.de", 3)
    model = write_config(tmp_path / "bart", "BartConfig")
    prepared(folder, model).processor.build(str(model), 0)
    with pytest.raises(DataError, match=r"`train, target`, `row 3`, must have at most 64"):
        prepared(folder, model, max_length=65).processor.build(str(model), 0)


def test_positions_are_those_of_each_half() -> None:
    from transformers import BertConfig, EncoderDecoderConfig, GPT2Config, LEDConfig, T5Config

    model: Any = torch.nn.Module()
    assert Positions.of(model) == Positions(ANY, ANY)
    led: dict[str, Any] = {
        "max_encoder_position_embeddings": 30,
        "max_decoder_position_embeddings": 20,
    }
    unused: dict[str, Any] = {"n_positions": 512}
    both = EncoderDecoderConfig(
        encoder=BertConfig(max_position_embeddings=9).to_dict(),
        decoder=GPT2Config(n_positions=7).to_dict(),
    )
    for config, found in (
        (LEDConfig(**led), Positions(30, 20)),
        (both, Positions(9, 7)),
        (T5Config(**unused), Positions()),
    ):
        model.config = config
        assert Positions.of(model) == found


def endless(folder: Path, model: Path, **changes: Any) -> tuple[Translator, Any]:
    """How a model translates that never ends by itself."""
    task = prepared(folder, model, **changes)
    made: Any = task.processor.build(str(model), 0)
    torch.nn.init.normal_(made.final_logits_bias)
    made.final_logits_bias[0, 2] = -1e4
    return task.processor.translator(task.config), made


def lengths(translator: Translator, model: Any, lines: list[str]) -> list[int]:
    return [len(line.split()) for line in translator.all(model, lines)]


@pytest.mark.parametrize("beam", [1, 3])
def test_a_translation_does_not_depend_on_its_batch(
    folder: Path, tmp_path: Path, beam: int
) -> None:
    path = write_config(tmp_path / "bart", "BartConfig")
    translator, model = endless(folder, path, beam=beam)
    model.final_logits_bias[0, :4] = -1e4  # words alone, which can be counted
    alone = replace(translator, batch_size=1)
    assert translator.all(model, [SHORT, LONG]) == alone.all(model, [SHORT, LONG])
    assert lengths(translator, model, [SHORT, LONG]) == [max_tokens(6), max_tokens(21)]
    model.final_logits_bias[0, 2] = 0.0
    found = [source for source, _ in PAIRS[:6]] + [LONG]
    assert translator.all(model, found) == alone.all(model, found)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_model_writes_and_reads_no_more_than_it_has_positions_for(
    folder: Path, tmp_path: Path, beam: int
) -> None:
    path = write_config(tmp_path / "bart", "BartConfig")
    translator, model = endless(folder, path, beam=beam)
    model.final_logits_bias[0, :4] = -1e4
    assert lengths(translator, model, ["one " * 63]) == [63]
    lines = [SHORT] * 17 + ["one " * 64]
    found = replace(translator, batch_size=1).stream(model, lines)
    for _ in range(16):  # those that are read ahead before it
        next(found)
    with pytest.raises(DataError, match=r"^`input`, line 18, must have at most 64 tokens"):
        next(found)
