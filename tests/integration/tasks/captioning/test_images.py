"""Images: decoded once, faults named, features kept under a key of all that they come from."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from embshare.tasks.captioning import images as reading
from embshare.tasks.captioning.data import CaptionedImage
from embshare.tasks.captioning.images import ModelInputs, decode, read_images, to_tensor
from embshare.tasks.captioning.model import make_encoder
from embshare.tasks.errors import DataError, Place
from tests._support.captioning_data import COLOURS, paint


@pytest.fixture
def images(tmp_path: Path) -> list[CaptionedImage]:
    folder = paint(tmp_path / "images")
    names = [f"train{index}.jpg" for index in range(4)]
    return [
        CaptionedImage(name, ("x",), folder / name, Place(Path("list.txt"), line))
        for line, name in enumerate(names, start=1)
    ]


def pixels_of(images: list[CaptionedImage], size: int, cache: Path) -> NDArray[Any]:
    return read_images(images, size, cache).arrays(range(len(images)))


def path_of(image: CaptionedImage) -> Path:
    assert image.path is not None
    return image.path


def test_an_image_is_decoded_whole_and_square(images: list[CaptionedImage]) -> None:
    found = decode(path_of(images[0]), 16)
    assert found.shape == (16, 16, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.reshape(-1, 3).mean(axis=0) - COLOURS["red"]).max() < 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_any_kind_of_image_becomes_three_colours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (20, 30), (255, 255, 255)).convert(mode).save(path)
    assert decode(path, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["a.png", "a.tif", "a.pgm"])
def test_a_grey_image_of_sixteen_bits_keeps_its_greys(tmp_path: Path, kind: str) -> None:
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
def test_an_image_of_which_nobody_knows_how_bright_it_is_is_refused(
    tmp_path: Path, values: NDArray[Any], mode: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"its values, of mode {mode}, are not those of 8 or 1"):
        decode(tmp_path / "a.tif", 8)


def test_an_image_that_lies_on_its_side_is_put_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 40), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 40, 20))  # black above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.jpg", exif=exif)
    found = decode(tmp_path / "a.jpg", 8)
    assert found[:3].mean() > 200 > 50 > found[5:].mean()


def test_a_truncated_jpeg_is_refused_with_file_and_line(
    images: list[CaptionedImage], tmp_path: Path
) -> None:
    path = path_of(images[2])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError) as caught:
        pixels_of(images, 16, tmp_path / "cache")
    assert (caught.value.path, caught.value.line) == (Path("list.txt"), 3)
    assert str(caught.value).startswith("`list.txt`, line 3, must name a whole image that Pillow")
    assert f"`{path}` is not (" in str(caught.value)
    assert "truncated" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(("raw", "finding"), [(b"", "is empty"), (b"<html>", "is none")])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, raw: bytes, finding: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=f"a whole image that Pillow can read, but {finding}"):
        decode(path, 8)
    with pytest.raises(DataError, match=r"is not \(No such file"):
        decode(tmp_path / "b.jpg", 8)


def test_images_are_decoded_once(
    images: list[CaptionedImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def counted(path: Path, size: int, place: Place | None = None) -> NDArray[np.uint8]:
        calls.append(path)
        return decode(path, size, place)

    monkeypatch.setattr(reading, "decode", counted)
    first = pixels_of(images, 16, tmp_path / "cache")
    assert (first.shape, len(calls)) == ((4, 16, 16, 3), 4)
    again = pixels_of(images, 16, tmp_path / "cache")
    assert len(calls) == 4
    np.testing.assert_array_equal(first, again)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(again[index], decode(path_of(image), 16))
    pixels_of(images, 8, tmp_path / "cache")  # another size
    assert len(calls) == 8
    Image.new("RGB", (9, 9), (1, 2, 3)).save(path_of(images[0]))  # another image of that name
    assert pixels_of(images, 16, tmp_path / "cache")[0].max() < 20
    assert len(calls) == 12


@pytest.mark.parametrize("later", [0, 1])
def test_a_file_that_changed_is_decoded_again_whatever_time_it_has(
    images: list[CaptionedImage], tmp_path: Path, later: int
) -> None:
    paths = [tmp_path / "images" / name for name in ("train0.bmp", "train1.bmp")]
    for path, colour in zip(paths, ((255, 0, 0), (0, 0, 255)), strict=True):
        Image.new("RGB", (8, 8), colour).save(path)
        os.utime(path, (1_500_000_000, 1_500_000_000))
    one = [CaptionedImage("a", ("x",), paths[0], Place(tmp_path))]
    before = pixels_of(one, 8, tmp_path / "cache")
    paths[0].write_bytes(paths[1].read_bytes())  # of the same size
    os.utime(paths[0], (1_500_000_000 + later,) * 2)  # as a copy that keeps times leaves it
    assert not np.array_equal(pixels_of(one, 8, tmp_path / "cache"), before)


def test_a_worker_process_maps_the_file_for_itself(
    images: list[CaptionedImage], tmp_path: Path
) -> None:
    inputs = read_images(images, 64, tmp_path)
    sent = pickle.dumps(inputs)
    assert len(sent) < 4 * 64 * 64 * 3 / 4
    np.testing.assert_array_equal(pickle.loads(sent).arrays([2]), inputs.arrays([2]))
    drawn = ModelInputs.of(np.ones((1, 2, 2, 3), dtype=np.uint8))
    assert pickle.loads(pickle.dumps(drawn)).arrays([0]).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("kept", [0, 7, 100, -100])
def test_a_cut_cache_file_is_made_again(
    images: list[CaptionedImage], tmp_path: Path, kept: int
) -> None:
    whole = pixels_of(images, 16, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:kept])
    np.testing.assert_array_equal(pixels_of(images, 16, tmp_path / "cache"), whole)


def test_a_folder_that_cannot_be_written_names_the_setting(
    images: list[CaptionedImage], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written \(.*\)\. Name another with `cac"):
        read_images(images, 8, tmp_path / "file")


def test_features_are_kept_for_these_weights_alone(
    images: list[CaptionedImage], tmp_path: Path
) -> None:
    encoder = make_encoder("small", 16, 16).eval()
    cache = tmp_path / "cache"
    found = read_images(images, 16, cache, encoder).arrays(range(4))
    pixels = np.stack([decode(path_of(image), 16) for image in images])
    with torch.no_grad():
        expected = encoder(to_tensor(pixels))
    torch.testing.assert_close(torch.tensor(found).float(), expected, atol=2e-3, rtol=2e-3)
    read_images(images, 16, cache, encoder)
    assert len(list(cache.glob("*.arrow"))) == 1
    with torch.no_grad():
        next(encoder.parameters()).add_(1.0)
    assert not np.array_equal(read_images(images, 16, cache, encoder).arrays(range(4)), found)
    assert len(list(cache.glob("*.arrow"))) == 2
