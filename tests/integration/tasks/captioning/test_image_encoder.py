"""Image encoders: grids of features of networks of any kind, and weights of no other network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from embshare.errors import InvalidValueError
from embshare.tasks.captioning.model import make_encoder, read_weights
from embshare.tasks.errors import DataError


@pytest.mark.parametrize(
    ("name", "side", "places", "features"),
    [
        ("small", 32, 16, 64),
        ("small", 112, 49, 64),
        ("resnet18", 64, 4, 512),
        ("mobilenetv3_small_050", 64, 4, 288),
        ("vit_tiny_patch16_224", 224, 196, 192),
        ("swin_tiny_patch4_window7_224", 224, 49, 768),
    ],
)
def test_encoders_give_a_grid(name: str, side: int, places: int, features: int) -> None:
    pytest.importorskip("timm")
    encoder = make_encoder(name, side).eval()
    assert (encoder.places, encoder.features) == (places, features)
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    assert encoder(pixels).shape == (2, places, features)


def test_a_grid_is_read_row_by_row() -> None:
    encoder = make_encoder("small", 32, 16)
    encoder.body = torch.nn.AvgPool2d(8)
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, 0:8, 24:32] = 255  # the last place of the first row
    assert encoder(pixels)[0, :, 0].argmax() == 3


def test_pixels_are_standardised_as_the_network_was_trained() -> None:
    pytest.importorskip("timm")
    assert make_encoder("vit_tiny_patch16_224", 224).mean.flatten().tolist() == [0.5] * 3
    assert make_encoder("resnet18", 64).mean[0].item() == pytest.approx(0.485)


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("resnet", 64, "`encoder` must be `small` or a model of timm, .* called `resnet`"),
        ("mobilenet_v3_small", 64, r"name one as .*mobilenetv3_small"),
        ("resnet18.no_tag", 64, "of which timm has features, but `resnet18.no_tag` is not"),
        ("vit_tiny_patch16_224", 64, "for images of 64 pixels, but .*: set `image_size`, or name"),
    ],
)
def test_what_is_no_encoder_is_refused(name: str, side: int, message: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(InvalidValueError, match=message):
        make_encoder(name, side)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_classifier_are_read_without_its_head(tmp_path: Path, suffix: str) -> None:
    timm = pytest.importorskip("timm")
    trained = timm.create_model("resnet18")
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, path
        )
    else:
        save_file(trained.state_dict(), path)
    encoder = make_encoder("resnet18", 64, weights=str(path)).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    trained.fc = torch.nn.Identity()
    standardised = (images / 255 - encoder.mean) / encoder.std
    torch.testing.assert_close(encoder(images).mean(dim=1), trained.eval()(standardised))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_names_that_features_only_writes_otherwise_are_found(tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    trained = timm.create_model(name)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    encoder = make_encoder(name, 224, weights=str(tmp_path / "weights.pth")).eval()
    pixels = torch.rand(1, 3, 224, 224) * 255
    standardised = (pixels / 255 - encoder.mean) / encoder.std
    (expected,) = trained.eval().forward_intermediates(
        standardised, indices=1, intermediates_only=True
    )
    torch.testing.assert_close(encoder(pixels), expected.flatten(2).transpose(1, 2))


def test_resnets_of_torchvision_are_read_as_they_are(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    trained = models.resnet18(weights=None)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    encoder = make_encoder("resnet18", 64, weights=str(tmp_path / "weights.pth")).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    trained.fc = torch.nn.Identity()
    standardised = (images / 255 - encoder.mean) / encoder.std
    torch.testing.assert_close(encoder(images).mean(dim=1), trained.eval()(standardised))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet34").state_dict(), path)
    with pytest.raises(
        DataError, match=r"each layer .*, but has none of this shape for `layer1\.0"
    ):
        make_encoder("resnet50", 64, weights=str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(
        DataError, match=r"`.*weights\.pth` must hold .*, but cannot be read"
    ) as found:
        read_weights(make_encoder("small", 16), path)
    assert found.value.path == path
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(make_encoder("small", 16), path)
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(make_encoder("small", 16), tmp_path / "nowhere.pth")
