"""A processor that is used again: what may differ does, and what may not is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.model import Captioner, make_encoder
from embshare.tasks.captioning.processor import CaptioningProcessor
from embshare.tasks.captioning.task import Captioning
from embshare.tasks.captioning.words import Vocabulary
from embshare.tasks.changing import FixedSettingError, scored_with
from embshare.tasks.decoding import Beam, beam_search
from embshare.tasks.settings import TrainSettings
from tests._support.captioning_data import paint, table


@pytest.fixture
def words() -> Vocabulary:
    return Vocabulary.learn(["a red picture"], least=1)


def tiny(**changes: Any) -> CaptioningConfig:
    return CaptioningConfig(
        **{"image_size": 16, "encoder_width": 16, "width": 32, "layers": 1, "heads": 2, **changes}
    )


def test_captions_are_searched_for_as_the_evaluation_says(words: Vocabulary) -> None:
    trained = CaptioningProcessor(tiny(), words, trained_before=True)
    asked = tiny(
        beam=7,
        length_penalty=0.0,
        most_words=2,
        split="valid",
        training=TrainSettings(eval_batch_size=5),
    )
    found = trained.again(asked, train=False)
    assert (found.config.beam, found.config.length_penalty) == (7, 0.0)
    assert (found.config.most_words, found.config.training.eval_batch_size) == (2, 5)
    assert found.vocabulary is words
    assert found.trained_before


def test_a_run_is_evaluated_as_the_evaluation_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, plain=True)
    paint(tmp_path / "images")
    fields: dict[str, Any] = {"data": tmp_path, "cache": tmp_path / "c", "metrics": ("cider",)}
    processor = Captioning(tiny(**fields)).prepare().processor
    told: list[tuple[int, int]] = []

    def counted(*given: Any, limits: Sequence[int], beam: Beam, **more: Any) -> Any:
        told.append((beam.width, max(limits)))
        return beam_search(*given, limits=limits, beam=beam, **more)

    monkeypatch.setattr("embshare.tasks.captioning.processor.beam_search", counted)
    task = Captioning(tiny(**fields, beam=7, most_words=2)).prepare(processor)
    task.evaluate(processor.build("conv", 0), folder=tmp_path)
    assert told == [(7, 3)]  # two words and the end


OTHERS: dict[str, Any] = {
    "image_size": 24,
    "encoder": "resnet18",
    "encoder_width": 24,
    "encoder_weights": "weights.pth",
    "shift": 1,
    "least": 2,
    "rows": 77,
    "width": 64,
    "layers": 2,
    "heads": 4,
    "kernel_size": 5,
    "dropout": 0.5,
    "scst_steps": 1,
    "scst_rate": 0.5,
}


def test_each_setting_is_free_or_has_an_example() -> None:
    free = CaptioningConfig.scoring
    assert OTHERS.keys() | free | {"frozen"} == CaptioningConfig.model_fields.keys()


@pytest.mark.parametrize("name", OTHERS)
def test_what_fixes_a_trained_model_is_refused(words: Vocabulary, name: str) -> None:
    trained = CaptioningProcessor(tiny(), words)
    with pytest.raises(FixedSettingError, match=f"^`{name}` must stay .*, but is ") as caught:
        trained.again(tiny(**{name: OTHERS[name]}), train=False)
    assert list(caught.value.changed) == [name]


def test_all_that_is_refused_is_named_with_the_hint(words: Vocabulary) -> None:
    trained = CaptioningProcessor(tiny(), words)
    with pytest.raises(FixedSettingError) as caught:
        trained.again(tiny(width=64, rows=9), train=False)
    assert str(caught.value) == (
        "`rows` must stay 4096, with which this model was trained, but is 9; `width` must stay "
        "32, with which this model was trained, but is 64. Leave `rows`, `width` as in the "
        "training, or train another model."
    )


def test_defaults_that_depend_on_the_data_stay_those_of_the_training(
    words: Vocabulary, tmp_path: Path
) -> None:
    scenes = CaptioningProcessor(CaptioningConfig(), words)
    asked = scored_with(scenes.config, {"data": tmp_path})
    assert isinstance(asked, CaptioningConfig)
    found = scenes.again(asked, train=False)
    assert (found.config.side, found.config.table_rows(7)) == (32, 4096)
    photographs = CaptioningConfig(data=tmp_path)
    assert (photographs.side, photographs.table_rows(7)) == (112, 7)
    with pytest.raises(FixedSettingError, match=r"`image_size` must stay 32, .*but is 112; `rows`"):
        scenes.again(photographs, train=False)


def test_settings_of_earlier_runs_are_read(tmp_path: Path) -> None:
    earlier = {"data": None, "image_size": None, "rows": None, "java_memory": "1G"}
    found = CaptioningConfig(**earlier, java_seconds=600.0)  # type: ignore[arg-type, call-arg]
    assert found == CaptioningConfig()


def test_another_model_may_be_of_another_size_but_not_of_another_frozen_encoder(
    words: Vocabulary, tmp_path: Path
) -> None:
    wider = CaptioningProcessor(tiny(), words).again(tiny(width=64, rows=1), train=True)
    assert wider.model_config("conv").width == 64
    fields: dict[str, Any] = {"frozen": True, "encoder_weights": "x"}
    frozen = CaptioningProcessor(tiny(**fields), words, make_encoder("small", 16, 16))
    assert frozen.again(tiny(**fields, width=64), train=True).model_config("lstm").width == 64
    with pytest.raises(FixedSettingError, match="`encoder_width` must stay 16"):
        frozen.again(tiny(**fields, encoder_width=24), train=True)
    with pytest.raises(FixedSettingError, match="`frozen` must stay True"):
        frozen.again(tiny(), train=True)


def test_another_model_gets_the_weights_that_its_settings_name(
    words: Vocabulary, tmp_path: Path
) -> None:
    encoder = make_encoder("small", 16, 16)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.5)  # as no random start gives them
    torch.save(encoder.body.state_dict(), tmp_path / "encoder.pth")
    config = tiny(encoder_weights=str(tmp_path / "encoder.pth"))
    teacher = CaptioningProcessor(config, words, trained_before=True)
    model = teacher.again(config, train=True).build("conv", 0)
    assert isinstance(model, Captioner)
    assert model.eye is not None
    for own, given in zip(model.eye.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(own, given)
