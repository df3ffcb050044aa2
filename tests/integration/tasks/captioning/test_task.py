"""The task from images to scores, on tiny models; faults are found before training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.sharing import share_from_embedding
from embshare.tasks.captioning import images, scenes
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.images import Pixels, decode
from embshare.tasks.captioning.metrics import ScoresLeftOutWarning
from embshare.tasks.captioning.model import make_encoder
from embshare.tasks.captioning.scenes import draw_split
from embshare.tasks.captioning.task import Captioning, PreparedCaptioning
from embshare.tasks.errors import DataError, MissingDataError, Place
from embshare.tasks.settings import TrainSettings
from embshare.tasks.training import train
from tests._support.captioning_data import coco, paint, table

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    table(data, plain=True)
    paint(data / "images")
    return data


def tiny(folder: Path, **changes: Any) -> CaptioningConfig:
    fields: dict[str, Any] = {
        "data": folder,
        "cache": folder.parent / "cache",
        "image_size": 16,
        "encoder_width": 16,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "dropout": 0.0,
        "metrics": ("cider",),
        "training": TrainSettings(steps=50, batch_size=12, learning_rate=1e-2, hidden_lr=1.0),
    }
    return CaptioningConfig(**{**fields, **changes})


def fit(task: PreparedCaptioning, architecture: str, folder: Path, share: bool = False) -> Any:
    model = task.processor.build(architecture, 0)
    if share:
        share_from_embedding(model, ShareConfig(anchor=2.0))
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    train(model, task.feed(), task.training, seed=0, folder=out, on_step=lambda: None)
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("share", [False, True])
def test_a_model_learns_to_say_what_it_sees(
    folder: Path, architecture: Architecture, share: bool, tmp_path: Path
) -> None:
    task = Captioning(tiny(folder)).prepare()
    before = task.evaluate(task.processor.build(architecture, 0), folder=tmp_path)
    model = fit(task, architecture, folder, share)
    after = task.evaluate(model, folder=tmp_path)
    assert after[task.metric.name] > 3 > before[task.metric.name]
    assert after["images"] == 3
    files = [str(folder / "images" / f"test{index}.jpg") for index in range(3)]
    written = list(task.processor.predict(model, files))
    assert [colour in line for colour, line in zip(("red", "green", "blue"), written, strict=True)]
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["caption"] for row in predictions] == written
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples[0]["references"] == "a red picture | this is a very red wall"
    with Image.open(tmp_path / samples[0]["image"]) as image:
        assert image.size == (96, 96)
    assert json.loads((tmp_path / "scores.json").read_text())["words"] == "plain"


def test_frozen_features_are_computed_once_and_go_with_the_model(
    folder: Path, tmp_path: Path
) -> None:
    torch.save(make_encoder("small", 16, 16).body.state_dict(), tmp_path / "encoder.pth")
    config = tiny(folder, encoder_weights=str(tmp_path / "encoder.pth"), frozen=True)
    task = Captioning(config).prepare()
    assert task.inputs["train"].dtype == "float16"
    model = fit(task, "attention", folder)
    assert not any("eye." in name for name, _ in model.named_parameters())
    found = task.evaluate(model, folder=tmp_path)
    assert found["cider"] > 2
    kept = tmp_path / "processor"
    kept.mkdir()
    task.processor.save(kept)
    (tmp_path / "encoder.pth").unlink()  # on another machine it would not be there
    again = Captioning(config).load_processor(kept)
    files = [str(folder / "images" / f"test{index}.jpg") for index in range(3)]
    assert list(again.predict(model, files)) == list(task.processor.predict(model, files))
    assert Captioning(config).prepare(again).evaluate(model, folder=tmp_path) == found
    (kept / "encoder.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"encoder\.safetensors` must hold a weight for each layer"):
        Captioning(config).load_processor(kept)


def test_drawn_scenes_are_seen_by_a_frozen_encoder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "SIZES", {"train": 40, "valid": 4, "test": 5})
    torch.save(make_encoder("small", 32, 16).body.state_dict(), tmp_path / "encoder.pth")
    config = tiny(
        tmp_path,
        data=None,
        image_size=None,
        encoder_weights=str(tmp_path / "encoder.pth"),
        frozen=True,
        training=TrainSettings(steps=2, batch_size=4),
    )
    task = Captioning(config).prepare()
    assert (len(task.inputs["train"]), task.inputs["train"].shape) == (40, (16, 16))
    assert task.inputs["train"].dtype == "float16"
    model = fit(task, "attention", tmp_path / "data")
    assert task.evaluate(model, folder=tmp_path)["images"] == 5
    with Image.open(tmp_path / "images" / "004.png") as image:
        np.testing.assert_array_equal(np.asarray(image)[::3, ::3], draw_split("test", 32)[4])


def test_predictions_are_read_by_cocos_evaluation(tmp_path: Path) -> None:
    api = pytest.importorskip("pycocotools.coco")
    data = tmp_path / "data"
    data.mkdir()
    coco(paint(data))
    for path in data.glob("captions_*.json"):
        path.write_text(path.read_text().replace(" .", "").replace("A ", "a ").replace("T", "t"))
    task = Captioning(tiny(data)).prepare()
    task.evaluate(task.processor.build("conv", 0), folder=tmp_path)
    rows = json.loads((tmp_path / "predictions.json").read_text())
    assert [row["image_id"] for row in rows] == [12, 13, 14, 15, 16, 17]
    annotations = data / "captions_val2017.json"
    whole = json.loads(annotations.read_text())
    whole["annotations"] = [{"id": n, **row} for n, row in enumerate(whole["annotations"])]
    annotations.write_text(json.dumps(whole))
    results = api.COCO(str(annotations)).loadRes(str(tmp_path / "predictions.json"))
    assert sorted(results.getImgIds()) == [12, 13, 14, 15, 16, 17]


def test_one_process_decodes_what_the_others_find(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Process:
        @contextmanager
        def main_process_first(self) -> Iterator[None]:
            told.append("of all")
            yield
            told.append("all next")

        @contextmanager
        def local_main_process_first(self) -> Iterator[None]:
            told.append("of this machine")
            yield
            told.append("these next")

    def counted(path: Path, size: int, place: Place | None = None) -> Pixels:
        told.append("decoded")
        return decode(path, size, place)

    monkeypatch.setattr("embshare.tasks.processes.process_state", Process)
    monkeypatch.setattr(images, "decode", counted)
    Captioning(tiny(folder)).prepare()
    assert (told[:2], told[-2:]) == (["of all", "of this machine"], ["these next", "all next"])
    assert set(told[2:-2]) == {"decoded"}


def test_a_model_is_evaluated_where_only_the_scored_split_is_there(folder: Path) -> None:
    processor = Captioning(tiny(folder)).prepare().processor
    path = folder / "captions.tsv"
    kept = [line for line in path.read_text().splitlines() if "\ttrain\t" not in line]
    path.write_text("\n".join(kept))
    task = Captioning(tiny(folder, split="valid")).prepare(processor)
    found = task.evaluate(processor.build("conv", 0), folder=folder)
    assert found["images"] == 3
    assert task.describe()["scored"] == "valid"


def test_what_is_described_tells_the_data(folder: Path) -> None:
    described: Any = Captioning(tiny(folder)).prepare().describe()
    assert described["images"] == {"train": 12, "valid": 3, "test": 3}
    assert described["sentences"]["train"] == 24
    assert described["scores"] == {"computed": ["cider"], "words": "plain", "left_out": {}}
    Image.new("RGB", (9, 9)).save(folder / "images" / "test1.jpg")
    assert Captioning(tiny(folder)).prepare().describe()["seen"] != described["seen"]
    json.dumps(described)


def test_names_of_scores_tell_how_words_were_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table(folder)  # with capitals and full stops
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(ScoresLeftOutWarning):
        task = Captioning(tiny(folder)).prepare()
    assert task.metric.name == "cider_words"
    model = task.processor.build("conv", 0)
    assert task.metric.name in task.evaluate(model, folder=tmp_path)


def damage_jpeg(folder: Path) -> None:
    path = folder / "images" / "dev1.jpg"
    path.write_bytes(path.read_bytes()[:-50])


def remove_image(folder: Path) -> None:
    (folder / "images" / "train1.jpg").unlink()


def empty_split(folder: Path) -> None:
    path = folder / "captions.tsv"
    path.write_text("\n".join(r for r in path.read_text().splitlines() if "\tdev\t" not in r))


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (damage_jpeg, DataError, r"captions\.tsv`, line 28, must name a whole image .*dev1\.jpg`"),
        (remove_image, MissingDataError, r"line 4, must name an image .* `train1\.jpg`"),
        (
            empty_split,
            MissingDataError,
            "for the split `valid`, but gives 12 for train, 3 for test",
        ),
    ],
)
def test_bad_data_are_found_before_training(
    folder: Path, harm: Any, kind: type[EmbshareError], message: str
) -> None:
    harm(folder)
    with pytest.raises(kind, match=message):
        Captioning(tiny(folder)).prepare()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen": True}, "`frozen` needs `encoder_weights`: an encoder that was never trained"),
        ({"encoder_weights": "x", "frozen": True, "shift": 2}, "`shift` needs an encoder that is"),
        ({"scst_steps": 51}, "`scst_steps` must be at most the 50 steps of training, but is 51"),
        ({"metrics": ("cider", "clip")}, r"`metrics`: must be of bleu, rouge_l, cider, meteor"),
        ({"metrics": ("bleu",)}, "must have cider among them"),
        ({"image_size": 7}, "`image_size`"),
        ({"encoder_width": 12}, "`encoder_width`"),
        ({"photographs": 3}, "`photographs`"),
    ],
)
def test_a_wrong_setting_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        tiny(folder, **changes)


def test_self_critical_steps_are_at_most_those_of_the_epochs(folder: Path) -> None:
    training = TrainSettings(epochs=2, batch_size=12)  # of 24 captions: four steps
    prepared = Captioning(tiny(folder, scst_steps=5, training=training)).prepare()
    with pytest.raises(InvalidValueError) as caught:
        prepared.feed()
    assert str(caught.value) == (
        "CaptioningConfig is not valid: `scst_steps` must be at most the 4 steps of training, but "
        "is 5."
    )
    Captioning(tiny(folder, scst_steps=4, training=training)).prepare().feed()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"encoder": "resnet"}, InvalidValueError, "there is none called `resnet`"),
        (
            {"encoder_weights": "nowhere.pth"},
            DataError,
            r"`nowhere\.pth` must hold .* cannot be read",
        ),
        ({"width": 36}, ValueError, r"`MatchedConfig\.width` must be a multiple of 2 \* heads"),
    ],
)
def test_what_no_model_can_have_is_found_before_training(
    folder: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    if "width" in changes:
        changes = {"width": 36, "heads": 4}
    if changes.get("encoder") == "resnet":
        pytest.importorskip("timm")
    with pytest.raises(kind, match=message):
        Captioning(tiny(folder, **changes)).prepare()


def test_long_captions_are_cut_and_unknown_words_kept_apart(folder: Path) -> None:
    task = Captioning(tiny(folder, least=12, most_words=3)).prepare()
    vocabulary = task.processor.vocabulary
    assert len(vocabulary) == 4 + 6
    assert {
        "a",
        "picture",
        "this",
        "is",
        "very",
        "wall",
    } <= vocabulary.tokenizer.fast.get_vocab().keys()
    rows = task.feed().rows
    _, tokens = rows[1]  # this is a very red wall
    assert vocabulary.decode(tokens) == "this is a\n"  # the end
    assert vocabulary.decode(rows[0][1]) == "a <unk> picture\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Tarfile:DeprecationWarning")
def test_the_built_in_scenes_are_a_task(tmp_path: Path) -> None:
    settings = TrainSettings(steps=2, batch_size=4)
    task = Captioning(CaptioningConfig(training=settings, metrics=("cider",))).prepare()
    assert task.describe()["table_rows"] == 4096
    model = task.processor.build("conv", 0)
    assert 0 <= task.evaluate(model, folder=tmp_path)[task.metric.name] < 1
