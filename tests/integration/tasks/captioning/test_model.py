"""The captioner: image encoder and encoder-decoder as one model, dense and shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.errors import SourceTooSmallError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.images import ModelInputs
from embshare.tasks.captioning.model import Captioner, make_encoder, move_at_random
from embshare.tasks.captioning.processor import CaptioningProcessor
from embshare.tasks.captioning.words import SPECIAL, Vocabulary

WORDS = Vocabulary.learn(f"word{index}" for index in range(60))


def processor(**changes: Any) -> CaptioningProcessor:
    fields: dict[str, Any] = {"width": 32, "layers": 1, "heads": 2, "image_size": 16, "rows": 70}
    return CaptioningProcessor(CaptioningConfig(**{**fields, **changes}), WORDS)


def build(architecture: str, **changes: Any) -> Captioner:
    model = processor(**changes).build(architecture, 0)
    assert isinstance(model, Captioner)
    return model


def pixels(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("encoder", ["small", "resnet18"])
def test_the_encoders_convolutions_derive_from_the_words_table(
    architecture: Architecture, encoder: str
) -> None:
    if encoder != "small":
        pytest.importorskip("timm")
    model = build(architecture, encoder=encoder, image_size=32)
    config = embshare.ShareConfig(method="veps", tie="all", anchor=2.0)
    plan = embshare.plan_sharing(model, config)
    (source,) = plan.sources
    assert "text.embedding" in str(source)
    convolutions = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Conv2d)
    }
    shared = {weight for slot in plan.slots for weight in slot.weights}
    assert convolutions <= shared
    embshare.share_from_embedding(model, plan)
    stored = dict(model.named_parameters())
    assert not convolutions & stored.keys()
    loss = model(pixels=pixels(side=32), labels=torch.randint(4, 60, (3, 5)))["loss"]
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_eps_says_how_many_rows_are_too_few() -> None:
    with pytest.raises(SourceTooSmallError, match="must have"):
        embshare.share_from_embedding(build("lstm"), embshare.ShareConfig(method="eps"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_scenes_leave_room_for_eps(architecture: Architecture) -> None:
    model = CaptioningProcessor(CaptioningConfig(), WORDS).build(architecture, 0)
    plan = embshare.plan_sharing(model, embshare.ShareConfig(method="eps", tie="all"))
    assert sum(slot.columns for slot in plan.slots) <= 96


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("share", [False, True])
def test_captions_are_words_and_the_same_twice(architecture: Architecture, share: bool) -> None:
    model = build(architecture)
    if share:
        embshare.share_from_embedding(model, embshare.ShareConfig(method="veps"))
    inputs = ModelInputs.of(pixels(5).permute(0, 2, 3, 1).numpy())

    def write(width: int, size: int) -> list[str]:
        settings = {"beam": width, "most_words": 6, "training": {"eval_batch_size": size}}
        return list(processor(**settings).write(model, inputs))

    found = write(3, 2)
    assert found == write(3, 5)
    words = WORDS.tokenizer.fast.get_vocab().keys() - set(SPECIAL.values())
    assert all(set(caption.split()) <= words for caption in found)
    assert all(len(caption.split()) <= 6 for caption in [*found, *write(1, 5)])


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)])
def test_it_writes_on_another_device(device: str) -> None:
    model = build("attention").to(device)
    inputs = ModelInputs.of(pixels(2).permute(0, 2, 3, 1).numpy())
    assert len(list(processor(beam=2, most_words=4).write(model, inputs))) == 2


def test_a_source_of_the_other_kind_is_refused() -> None:
    features, labels = torch.randn(2, 4, 8), torch.ones(2, 3, dtype=torch.long)
    frozen = Captioner(processor().model_config("conv"), None, features=8)
    assert frozen(features=features.half(), labels=labels)["loss"].isfinite()
    with pytest.raises(ValueError, match="this model reads features"):
        frozen(pixels=pixels(), labels=labels)
    with pytest.raises(ValueError, match="this model reads images"):
        build("conv")(features=features, labels=labels)


def test_features_are_centred_over_images() -> None:
    frozen = Captioner(processor().model_config("conv"), None, features=8)
    seen = frozen.image_features(None, torch.randn(16, 5, 8) * 3 + 7)
    torch.testing.assert_close(seen.mean(dim=(0, 1)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(dim=(0, 1)), torch.ones(8), atol=2e-2, rtol=0)


def test_images_move_in_training_and_not_in_use() -> None:
    some = pixels(64)
    moved = move_at_random(some, 2)
    assert moved.shape == some.shape
    assert not torch.equal(moved, some)
    down = torch.cat((some[:, :, :1], some[:, :, :-1]), dim=2)  # one pixel, the edge repeated
    right = torch.cat((some[..., :1], some[..., :-1]), dim=3)
    found = move_at_random(some, 1)
    assert any(torch.equal(found[i], down[i]) for i in range(64))
    assert any(torch.equal(found[i], right[i]) for i in range(64))
    model = build("conv", shift=4).eval()
    assert torch.equal(model.image_features(some, None), model.image_features(some, None))


def test_a_seed_gives_one_start_whatever_happened_before() -> None:
    first = build("attention").state_dict()
    torch.rand(7)
    again = build("attention").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_encoder_of_a_file_is_where_fine_tuning_starts(tmp_path: Path) -> None:
    eye = make_encoder("small", 16)
    torch.save(eye.body.state_dict(), tmp_path / "eye.pth")
    model = build("conv", encoder_weights=str(tmp_path / "eye.pth"))
    assert model.eye is not None
    for name, tensor in eye.body.state_dict().items():
        assert torch.equal(model.eye.body.state_dict()[name], tensor)
