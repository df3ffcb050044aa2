"""Captions in every published layout, and what is said about files that are not as they must be."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.captioning.data import load_folder
from embshare.tasks.errors import DataError, MissingDataError
from tests._support.captioning_data import LAYOUTS, coco, flickr, karpathy, paint, table

SIZES = {"train": 12, "valid": 3, "test": 3}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("images", ["images", "Flicker8k_Dataset", "val2017", "elsewhere"])
def test_every_layout_gives_the_same_captions(tmp_path: Path, layout: str, images: str) -> None:
    if layout != "coco" and images == "val2017":
        pytest.skip("a folder of COCO's own layout")
    path = LAYOUTS[layout](tmp_path)
    folder = paint(tmp_path / images)
    found = load_folder(tmp_path, folder if images == "elsewhere" else None)
    expected = SIZES if layout != "coco" else {"train": 12, "valid": 6, "test": 6}
    assert {split: len(rows) for split, rows in found.splits.items()} == expected
    first = found.images("train")[0]
    assert first.captions == ("A red picture .", "This is a very red wall .")
    assert first.path == folder / "train0.jpg"
    assert first.place.path.parent == tmp_path
    assert load_folder(path, folder).fingerprint() == found.fingerprint()
    assert bool(found.note) == (layout == "coco")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_may_lie_in_the_folder_that_is_named_for_them(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path)
    paint(tmp_path)
    assert len(load_folder(tmp_path).images("test")) == (6 if layout == "coco" else 3)


def test_only_the_splits_that_are_needed_have_to_be_there(tmp_path: Path) -> None:
    coco(tmp_path)
    (tmp_path / "captions_train2017.json").unlink()
    paint(tmp_path)
    found = load_folder(tmp_path, needed=("test",))
    assert list(found.splits) == ["test"]
    with pytest.raises(MissingDataError) as caught:
        load_folder(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}` must give images with captions for the split `train`, but gives 6 for "
        "valid, 6 for test. Fetch the files again, or name another folder."
    )


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path)
    paint(tmp_path)
    kept = [line for line in path.read_text().splitlines() if "\tdev\t" not in line]
    path.write_text("\n".join(kept))
    with pytest.raises(MissingDataError, match="for the split `valid`, but gives 12 for train, 3"):
        load_folder(tmp_path)


def test_a_folder_without_captions_names_the_layouts(tmp_path: Path) -> None:
    paint(tmp_path)
    with pytest.raises(MissingDataError, match=r"one of captions\.tsv, dataset_\*\.json"):
        load_folder(tmp_path)
    with pytest.raises(MissingDataError, match="but is not a folder"):
        load_folder(tmp_path / "nowhere")


def test_captions_as_they_were_written_are_read_not_their_lemmas(tmp_path: Path) -> None:
    path = flickr(tmp_path)
    lemmas = tmp_path / "Flickr8k.lemma.token.txt"
    lemmas.write_text(path.read_text().replace("This is", "This be"))
    paint(tmp_path)
    assert load_folder(tmp_path).images("test")[0].captions[1] == "This is a very red wall ."
    assert load_folder(lemmas).images("test")[0].captions[1] == "This be a very red wall ."


@pytest.mark.parametrize(
    ("layout", "other"),
    [
        ("karpathy", "dataset_flickr8k.json"),
        ("flickr", "results_20130124.token"),
        ("coco", "captions_train2014.json"),
    ],
)
def test_one_of_several_files_has_to_be_named(tmp_path: Path, layout: str, other: str) -> None:
    path = LAYOUTS[layout](tmp_path)
    (tmp_path / other).write_bytes(path.read_bytes())
    paint(tmp_path)
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}` must hold one file of captions in this layout, but holds "
        f"{', '.join(sorted((path.name, other)))}. Name the one that is meant: `data` may be the "
        "file itself."
    )
    for named in (path, tmp_path / other):
        found = load_folder(named)
        assert len(found.images("train")) == 12
        assert named == found.images("train")[0].place.path or layout == "flickr"


def test_a_file_of_coco_goes_with_that_of_its_year(tmp_path: Path) -> None:
    coco(tmp_path)
    paint(tmp_path)
    for split in ("train", "val"):
        path = tmp_path / f"captions_{split}2017.json"
        (tmp_path / f"captions_{split}2014.json").write_bytes(path.read_bytes())
    found = load_folder(tmp_path / "captions_val2014.json")
    assert found.images("valid")[0].place.path.stem == "captions_val2014"
    assert found.images("train")[0].place.path.stem == "captions_train2014"


def test_images_keep_the_identifiers_of_coco(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("coco", "karpathy", "table")}
    for name, folder in folders.items():
        folder.mkdir()
        LAYOUTS[name](paint(folder))
    path = folders["karpathy"] / "dataset_coco.json"
    whole = json.loads(path.read_text())
    for number, row in enumerate(whole["images"]):
        row["cocoid"] = 1000 + number
    path.write_text(json.dumps(whole))
    found = {name: load_folder(folder).images("test") for name, folder in folders.items()}
    assert [image.image_id for image in found["coco"]] == [12, 13, 14, 15, 16, 17]
    assert [image.image_id for image in found["karpathy"]] == [1015, 1016, 1017]
    assert [image.image_id for image in found["table"]] == [None] * 3
    path.write_text(path.read_text().replace('"cocoid": 1000', '"cocoid": "x"'))
    with pytest.raises(DataError, match=r"images\[0\]`, .* `cocoid`: .* integer"):
        load_folder(folders["karpathy"])


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = table(tmp_path)
    paint(tmp_path / "images")
    (tmp_path / "images" / "train3.jpg").unlink()
    (tmp_path / "images" / "test0.jpg").unlink()
    with pytest.raises(MissingDataError) as caught:
        load_folder(tmp_path, tmp_path / "images")
    assert str(caught.value) == (
        f"`{path}`, line 8, must name an image that is there, but `train3.jpg` is in none of "
        f"`{tmp_path / 'images'}`; in all 2 of 18 images are missing. Put them there, or name "
        "their folder as `images`."
    )
    assert (caught.value.path, caught.value.line) == (path, 8)


def test_two_names_are_not_one_file(tmp_path: Path) -> None:
    path = table(tmp_path)
    paint(tmp_path / "images")
    path.write_text(path.read_text().replace("train0.jpg", "x/train0.jpg"))
    assert load_folder(tmp_path).images("train")[0].path == tmp_path / "images" / "train0.jpg"
    replace(path, "dev1.jpg", "y/train0.jpg")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert str(caught.value) == (
        f"`{path}`, line 28, must find a file for `y/train0.jpg` alone, but that and "
        f"`x/train0.jpg` are both found as `{tmp_path / 'images' / 'train0.jpg'}`. Put each "
        "image into the folder of its name, or name the folder that these are in as `images`."
    )
    for below in ("x", "y"):
        paint(tmp_path / "images" / below)
    found = load_folder(tmp_path)
    assert found.images("train")[0].path == tmp_path / "images" / "x" / "train0.jpg"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image\tsplit", "file\tsplit", r"line 1, must be a header with the columns image, split"),
        (
            "\t1\tThis",
            "\tThis",
            r"line 3, must have 4 columns between tabs, as the header has, but ",
        ),
        ("\tA red", "\tA\tred", r"line 2, .* but has 5\. Correct the line; a caption cannot hold"),
        ("\ttrain\t0", "\ttrian\t0", r"line 2, must name a split \(train, restval, .*'trian'"),
        ("\ttrain\t1", "\ttest\t1", r"line 3, must leave `train0\.jpg` in the split `train`, but "),
        ("\tA red picture .", "\t  . ", r"line 2, must have a caption, but has '  \. ' there"),
    ],
)
def test_a_wrong_line_of_a_table_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    replace(table(tmp_path), old, new)
    with pytest.raises(DataError, match=message) as caught:
        load_folder(tmp_path)
    assert str(tmp_path / "captions.tsv") in str(caught.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "token",
            "train0.jpg#0\t",
            "train0.jpg#0 ",
            "token.txt`, line 2, must be NAME#NUMBER, one",
        ),
        ("token", "train0.jpg#0", "train0.jpg", "line 2, .* has 2 columns and begins 'train0.jpg'"),
        ("train", "train1.jpg", "train99.jpg", "line 2, .* names `train99.jpg`, which has none"),
        ("train", "train1.jpg", "test0.jpg", "testImages.txt`, line 1, .* split `train` names too"),
        ("train", "train1.jpg", "train0.jpg", "trainImages.txt`, line 2, .* `train` names too"),
    ],
)
def test_a_wrong_line_of_flickr8k_is_named(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    path = flickr(tmp_path)
    replace(path if file == "token" else tmp_path / "Flickr_8k.trainImages.txt", old, new)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    flickr(tmp_path)
    (tmp_path / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(DataError, match=r"must have a list of the split `valid` \(\*dev"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{"images"', '{"images', r"line 1, must be JSON, but is not from column \d+ on"),
        (
            '{"images"',
            '{"photographs"',
            r"`images`, must be as its layout has it, but Field required",
        ),
        (
            '"filename": "train1.jpg"',
            '"name": "x"',
            r"`images\[1\]`, .* `filename`: Field req",
        ),
        (
            '"raw": "A red',
            '"text": "A red',
            r"`images\[0\]`, .* `sentences\.0\.raw`: Field",
        ),
        ('"split": "restval"', '"split": 3', r"`images\[0\]`, .* `split`: .* valid string \(3\)"),
        (
            "test2.jpg",
            "dev1.jpg",
            r"`images\[17\]`, must name an image that no other entry names, ",
        ),
        (
            "train3.jpg",
            "train1.jpg",
            r"names `train1.jpg`, as `.*`, `images\[1\]` does\. Remove one",
        ),
    ],
)
def test_a_wrong_entry_of_karpathys_file_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    replace(karpathy(tmp_path), old, new)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_json_of_another_kind_is_named(tmp_path: Path) -> None:
    karpathy(tmp_path).write_text("[]")
    with pytest.raises(DataError, match=r"coco\.json` must be as its layout has it, but Input"):
        load_folder(tmp_path)


def change_coco(path: Path, part: str, index: int, row: Any) -> None:
    found = json.loads(path.read_text())
    found[part][index] = row
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("part", "row", "message"),
    [
        ("images", {"id": 0}, r"`images\[0\]`, .* `file_name`: Field required"),
        ("images", [], r"`images\[0\]`, .* dictionary .*\(\[\]\)"),
        ("annotations", {"image_id": 77, "caption": "x"}, r"image in `images`, but is of 77"),
        (
            "annotations",
            {"image_id": 0, "caption": ""},
            r"`annotations\[0\]`, .* `caption`: .*must have words",
        ),
        ("images", {"id": 99, "file_name": "y"}, r"`annotations\[0\]`, .* but is of 0"),
        (
            "images",
            {"id": 3, "file_name": "y"},
            r"`images\[3\]`, must have its own `id`, but ",
        ),
        (
            "images",
            {"id": 0, "file_name": "train4.jpg"},
            r"`images\[4\]`, .* that no other entry na",
        ),
        (
            "images",
            {"id": 0, "file_name": "dev1.jpg"},
            r"val2017.json`, `images\[1\]`, .* as .*trai",
        ),
    ],
)
def test_a_wrong_entry_of_cocos_file_is_named(
    tmp_path: Path, part: str, row: Any, message: str
) -> None:
    change_coco(coco(tmp_path), part, 0, row)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_refused(tmp_path: Path, layout: str, encoding: str) -> None:
    path = LAYOUTS[layout](tmp_path)
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert str(caught.value) == (
        f"`{path}`, line 1, must be UTF-8, but begins with the byte order mark of "
        f"{encoding.upper()}. Convert the file, for example with "
        f"`iconv -f {encoding.upper()} -t utf-8`."
    )


def test_latin1_is_refused_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"very green", b"tr\xe8s green", 1))
    with pytest.raises(DataError, match=r"line 5, must be UTF-8, but has the byte 0xe8"):
        load_folder(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_byte_order_mark_in_front_is_no_part_of_the_text(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path)
    paint(tmp_path)
    before = load_folder(tmp_path).fingerprint()
    raw = path.read_bytes()
    path.write_bytes(
        codecs.BOM_UTF8 + (raw if layout in ("karpathy", "coco") else raw.replace(b"\n", b"\r\n"))
    )
    assert load_folder(tmp_path).fingerprint() == before


def test_a_byte_order_mark_within_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = flickr(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "\ufeff" + lines[4], *lines[5:]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 5, must be text, but has a byte order mark"):
        load_folder(tmp_path)


@pytest.mark.data
def test_the_flickr8k_subset_is_read(data: Path) -> None:
    found = load_folder(data / "flickr8k")
    assert {split: len(rows) for split, rows in found.splits.items()} == {
        "train": 1400,
        "valid": 300,
        "test": 300,
    }
    assert {len(p.captions) for rows in found.splits.values() for p in rows} == {5}


@pytest.mark.data
def test_the_whole_of_flickr8k_wants_its_images(data: Path) -> None:
    with pytest.raises(MissingDataError, match=r"in all 6,000 of 8,000 images are missing"):
        load_folder(data / "flickr8k" / "text")


@pytest.mark.data
def test_coco_without_images_says_so(data: Path) -> None:
    with pytest.raises(MissingDataError, match=r"in all 5,000 of 5,000 images are missing"):
        load_folder(data / "coco_captions_val2017", needed=("test",))
    with pytest.raises(MissingDataError, match="split `train`, but gives 5,000 for valid"):
        load_folder(data / "coco_captions_val2017")
