"""Pictures: decoded once, faults named, features kept under a key of all that they come from."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.errors import EncoderError, PictureError
from embshare.tasks.captioning.pictures import seen
from embshare.tasks.captioning.pictures.decoding import decode
from embshare.tasks.captioning.image_encoder import (
    make_encoder,
    read_weights,
    weights_digest,
)
from embshare.tasks.captioning.pictures.seen import features_of, pixels_of, to_tensor
from embshare.tasks.captioning.pictures.store import CacheFolderError, key_of, stored
from embshare.tasks.captioning.images import ModelInputs
from tests.tasks.captioning.making import COLOURS, paint


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    folder = paint(tmp_path / "images")
    names = [f"train{index}.jpg" for index in range(4)]
    return [
        Picture(name, ("x",), folder / name, f"`list.txt`, line {line},")
        for line, name in enumerate(names, start=1)
    ]


def path_of(picture: Picture) -> Path:
    assert picture.path is not None
    return picture.path


def test_a_picture_is_decoded_whole_and_square(pictures: list[Picture]) -> None:
    found = decode(path_of(pictures[0]), 16)
    assert found.shape == (16, 16, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.reshape(-1, 3).mean(axis=0) - COLOURS["red"]).max() < 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_any_kind_of_picture_becomes_three_colours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (20, 30), (255, 255, 255)).convert(mode).save(path)
    assert decode(path, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["a.png", "a.tif", "a.pgm"])
def test_a_grey_picture_of_sixteen_bits_keeps_its_greys(tmp_path: Path, kind: str) -> None:
    values = np.repeat(np.arange(0, 1 << 16, 1 << 12, dtype=np.uint16), 16).reshape(16, 16)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    more: dict[str, Any] = {"exif": exif} if kind == "a.png" else {}
    Image.fromarray(values).save(tmp_path / kind, **more)
    found = decode(tmp_path / kind, 16)
    upright = values[::-1, ::-1] if more else values
    np.testing.assert_array_equal(found, np.repeat(upright[..., None] >> 8, 3, axis=2))


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.full((4, 4), 0.5, dtype=np.float32), "F"),
        (np.full((4, 4), 1 << 16, dtype=np.int32), "I"),
        (np.full((4, 4), -1, dtype=np.int32), "I"),
    ],
)
def test_a_picture_of_which_nobody_knows_how_bright_it_is_is_refused(
    tmp_path: Path, values: NDArray[Any], mode: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(PictureError, match=rf"its values, of mode {mode}, are not those of 8 or 1"):
        decode(tmp_path / "a.tif", 8)


def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 40), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 40, 20))  # black above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.jpg", exif=exif)
    found = decode(tmp_path / "a.jpg", 8)
    assert found[:3].mean() > 200 > 50 > found[5:].mean()


def test_a_truncated_jpeg_is_refused_with_file_and_line(
    pictures: list[Picture], tmp_path: Path
) -> None:
    path = path_of(pictures[2])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(PictureError) as caught:
        pixels_of(pictures, 16, tmp_path / "cache")
    named = f"`{path}`, named in `list.txt`, line 3, must be a whole picture that Pillow can read"
    assert str(caught.value).startswith(named)
    assert "truncated" in str(caught.value)
    assert caught.value.path == path
    assert {kept.suffix for kept in (tmp_path / "cache").iterdir()} == {".digests"}


@pytest.mark.parametrize(("raw", "finding"), [(b"", "is empty"), (b"<html>", "is none")])
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, raw: bytes, finding: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(raw)
    with pytest.raises(PictureError, match=f"a whole picture that Pillow can read, but {finding}"):
        decode(path, 8)
    with pytest.raises(PictureError, match=r"cannot be opened \(No such file"):
        decode(tmp_path / "b.jpg", 8)


def test_pictures_are_decoded_once(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def counted(path: Path, size: int, place: str | None = None) -> NDArray[np.uint8]:
        calls.append(path)
        return decode(path, size, place)

    monkeypatch.setattr(seen, "decode", counted)
    first = pixels_of(pictures, 16, tmp_path / "cache")
    assert (first.shape, len(calls)) == ((4, 16, 16, 3), 4)
    again = pixels_of(pictures, 16, tmp_path / "cache")
    assert len(calls) == 4
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    for index, picture in enumerate(pictures):
        np.testing.assert_array_equal(again[index], decode(path_of(picture), 16))
    pixels_of(pictures, 8, tmp_path / "cache")  # another size
    Image.new("RGB", (9, 9), (1, 2, 3)).save(path_of(pictures[0]))  # another picture of that name
    assert pixels_of(pictures, 16, tmp_path / "cache")[0].max() < 20
    assert len(calls) == 12


def test_a_worker_process_maps_the_file_for_itself(pictures: list[Picture], tmp_path: Path) -> None:
    inputs = ModelInputs.of(pixels_of(pictures, 64, tmp_path))
    sent = pickle.dumps(inputs)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).array, inputs.array)
    drawn = ModelInputs.of(np.ones((1, 2, 2, 3), dtype=np.uint8))
    assert pickle.loads(pickle.dumps(drawn)).array.shape == (1, 2, 2, 3)


def test_a_cut_cache_file_is_made_again(pictures: list[Picture], tmp_path: Path) -> None:
    whole = np.array(pixels_of(pictures, 16, tmp_path))
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(pixels_of(pictures, 16, tmp_path), whole)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def fill(array: NDArray[Any]) -> None:
        array[0] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, key_of(["a"]), shape=(2,), dtype=np.uint8, fill=fill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CacheFolderError, match=r"cannot be written \(.*\)\. Name another with `cac"
    ):
        stored(tmp_path / "file", "k", shape=(1,), dtype=np.uint8, fill=lambda array: None)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_the_disk_has_space_for_an_array_before_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def fill(array: NDArray[Any]) -> None:
        (part,) = tmp_path.glob(".*.part")
        taken.append(part.stat().st_blocks * 512)

    stored(tmp_path, "a", shape=(1 << 20,), dtype=np.uint8, fill=fill)
    assert taken[0] >= 1 << 20

    def full(descriptor: int, offset: int, length: int) -> None:
        assert length > 1 << 20
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CacheFolderError, match=r"cannot be written \(.*No space left on device\)"):
        stored(tmp_path, "b", shape=(1 << 20,), dtype=np.uint8, fill=fill)
    assert len(taken) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_a_file_system_that_cannot_reserve_space_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def fill(array: NDArray[Any]) -> None:
        array[:] = 7

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert stored(tmp_path, "a", shape=(2,), dtype=np.uint8, fill=fill).tolist() == [7, 7]


def test_keys_tell_where_one_part_ends() -> None:
    assert key_of(["ab", "c"]) != key_of(["a", "bc"]) != key_of(["abc"])


def test_features_are_kept_for_these_weights_alone(pictures: list[Picture], tmp_path: Path) -> None:
    eye = make_encoder("small", 16, 16).eval()
    found = features_of(pictures, 16, eye, tmp_path)
    pixels = np.stack([decode(path_of(picture), 16) for picture in pictures])
    with torch.no_grad():
        expected = eye(to_tensor(pixels))
    torch.testing.assert_close(
        torch.from_numpy(np.array(found)).float(), expected, atol=2e-3, rtol=2e-3
    )
    before = weights_digest(eye)
    with torch.no_grad():
        next(eye.parameters()).add_(1.0)
    assert weights_digest(eye) != before
    assert not np.array_equal(features_of(pictures, 16, eye, tmp_path), found)
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.parametrize(
    ("name", "side", "places", "features"),
    [
        ("small", 32, 16, 64),
        ("small", 112, 49, 64),
        ("resnet18", 64, 4, 512),
        ("mobilenet_v3_small", 64, 4, 576),
        ("regnet_y_400mf", 64, 4, 440),
    ],
)
def test_encoders_give_a_grid(name: str, side: int, places: int, features: int) -> None:
    pytest.importorskip("torchvision")
    eye = make_encoder(name, side).eval()
    assert (eye.places, eye.features) == (places, features)
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    assert eye(pixels).shape == (2, places, features)


def test_a_grid_is_read_row_by_row() -> None:
    eye = make_encoder("small", 32, 16)
    eye.body = torch.nn.AvgPool2d(8)
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, 0:8, 24:32] = 255  # the last place of the first row
    assert eye(pixels)[0, :, 0].argmax() == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet",
            "the encoder `resnet` must be `small` or a classifier of torchvision, but there",
        ),
        (
            "shufflenet_v2_x0_5",
            "network whose layers stand in a row, but is of another kind",
        ),
        ("swin_t", "must be a convolutional network"),
    ],
)
def test_what_is_no_encoder_is_refused(name: str, message: str) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(EncoderError, match=message):
        make_encoder(name, 64)


def test_a_picture_too_small_for_a_network_is_named() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(EncoderError, match=r"pictures of 8 pixels, but .*Raise `image_size`"):
        make_encoder("squeezenet1_0", 8)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_classifier_are_read_without_its_head(tmp_path: Path, suffix: str) -> None:
    models = pytest.importorskip("torchvision").models
    trained = models.resnet18(weights=None)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, path
        )
    else:
        save_file(trained.state_dict(), path)
    eye = make_encoder("resnet18", 64).eval()
    read_weights(eye, "resnet18", str(path))
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    trained.fc = torch.nn.Identity()
    standardised = (images / 255 - eye.mean) / eye.spread
    torch.testing.assert_close(eye(images).mean(dim=1), trained.eval()(standardised))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    path = tmp_path / "weights.pth"
    torch.save(models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(
        EncoderError, match=r"each of its layers, but those of `.*` lack `layer1\.0"
    ):
        read_weights(make_encoder("resnet50", 64), "resnet50", str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(EncoderError, match=r"have a file of weights, but `.*` cannot be read"):
        read_weights(make_encoder("small", 16), "small", str(path))
    torch.save([1, 2], path)
    with pytest.raises(EncoderError, match="holds no state dict"):
        read_weights(make_encoder("small", 16), "small", str(path))
