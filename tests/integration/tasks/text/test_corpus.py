"""Reading text: published layouts, and errors with file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.text.corpus import SPLITS, builtin_corpus, folder_corpus, load_corpus


def write(folder: Path, layout: str = "{}.txt") -> Path:
    for split in SPLITS:
        (folder / layout.format(split)).write_text(f"some {split} words\n", encoding="utf-8")
    return folder


def test_the_builtin_text_is_english_in_three_disjoint_splits() -> None:
    corpus = builtin_corpus()
    sizes = {split: len(corpus.split(split)) for split in SPLITS}
    assert 300_000 < sum(sizes.values()) < 1_000_000
    assert all(0.05 < sizes[split] / sum(sizes.values()) < 0.15 for split in ("valid", "test"))
    assert corpus.fingerprint() == builtin_corpus().fingerprint() == load_corpus(None).fingerprint()
    paragraphs = {
        split: {" ".join(p.split()) for p in corpus.split(split).split("\n\n")} for split in SPLITS
    }
    assert not paragraphs["train"] & paragraphs["test"]
    assert not paragraphs["train"] & paragraphs["valid"]


@pytest.mark.parametrize("layout", ["{}.txt", "wiki.{}.tokens", "wiki.{}.raw", "ptb.{}.txt"])
def test_the_published_layouts_are_read(tmp_path: Path, layout: str) -> None:
    corpus = folder_corpus(write(tmp_path, layout))
    assert corpus.valid == "some valid words\n"
    assert corpus.name == str(tmp_path)


def test_windows_line_ends_and_byte_order_marks_are_no_words(tmp_path: Path) -> None:
    (write(tmp_path) / "train.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert folder_corpus(tmp_path).train == "one\ntwo\n"


def test_fingerprints_tell_texts_of_one_name_apart(tmp_path: Path) -> None:
    before = folder_corpus(write(tmp_path)).fingerprint()
    (tmp_path / "test.txt").write_text("other words\n")
    assert folder_corpus(tmp_path).fingerprint() != before


def test_a_missing_split_names_folder_need_finding_and_hint(tmp_path: Path) -> None:
    (write(tmp_path) / "valid.txt").unlink()
    with pytest.raises(MissingDataError, match="leave `data` out to use the text") as caught:
        folder_corpus(tmp_path)
    assert caught.value.path == tmp_path
    assert caught.value.needs == (
        "be a folder with the split `valid` as valid.txt or wiki.valid.tokens or wiki.valid.raw or "
        "ptb.valid.txt"
    )
    assert caught.value.has == "the folder holds test.txt, train.txt"


def test_a_folder_that_is_not_there_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="but that is not a folder\\. Name the folder"):
        load_corpus(tmp_path / "nowhere")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "test.txt").write_text("\n \n")
    with pytest.raises(DataError, match="must hold the text of the split `test`") as caught:
        folder_corpus(tmp_path)
    assert caught.value.path == tmp_path / "test.txt"


def test_another_encoding_is_refused_with_file_and_line(tmp_path: Path) -> None:
    (write(tmp_path) / "train.txt").write_bytes(b"plain\nplain\ncaf\xe9 noir\n")
    with pytest.raises(DataError, match="must be UTF-8, but has the byte 0xe9") as caught:
        folder_corpus(tmp_path)
    assert (caught.value.path, caught.value.line) == (tmp_path / "train.txt", 3)
    assert "`iconv -f latin1 -t utf-8`" in caught.value.hint


@pytest.mark.parametrize(
    ("encoding", "byte"), [("utf-16", "0xff"), ("utf-16-le", "0x00"), ("utf-16-be", "0x00")]
)
def test_wide_characters_are_refused_with_a_mark_and_without(
    tmp_path: Path, encoding: str, byte: str
) -> None:
    (write(tmp_path) / "test.txt").write_text("the quick fox\n", encoding=encoding)
    with pytest.raises(DataError, match=f"must be UTF-8, but has the byte {byte}") as caught:
        folder_corpus(tmp_path)
    assert (caught.value.path, caught.value.line) == (tmp_path / "test.txt", 1)
    assert "`iconv -f utf-16 -t utf-8`" in caught.value.hint


def test_an_evaluation_reads_what_is_scored(tmp_path: Path) -> None:
    (write(tmp_path) / "train.txt").write_bytes(b"\xff never read")
    found = load_corpus(tmp_path, train=False)
    assert (found.train, found.splits) == ("", ("valid", "test"))
    (tmp_path / "train.txt").unlink()
    (tmp_path / "valid.txt").unlink()
    assert load_corpus(tmp_path, train=False).splits == ("test",)
    assert load_corpus(None, train=False).splits == ("valid", "test")
    (tmp_path / "test.txt").unlink()
    with pytest.raises(MissingDataError, match="with the split `test` as"):
        load_corpus(tmp_path, train=False)


def hub(folder: Path, **splits: list[Any]) -> Path:
    """A data set in the hub's layout, as a folder."""
    for split, rows in splits.items():
        lines = [json.dumps({"text": row}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return Path(f"hub:{folder}")


def test_a_data_set_of_the_hub_is_read(tmp_path: Path) -> None:
    name = hub(tmp_path, train=[" = A = \n", None, "b c"], validation=["d"], test=["e f\n", "g"])
    corpus = load_corpus(name)
    assert corpus.train == " = A = \n\nb c\n"
    assert (corpus.valid, corpus.test, corpus.name) == ("d\n", "e f\ng\n", str(tmp_path))
    assert load_corpus(name, train=False).train == ""


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": ["a"], "test": ["b"]}, "`validation`, must be a split with text, but the set"),
        ({"train": [""], "validation": ["a"], "test": ["b"]}, "`train`, must be a split with text"),
        ({"train": [1], "validation": [2], "test": [3]}, "`train\\[0\\]`, must hold text, but"),
    ],
)
def test_a_data_set_of_the_hub_that_is_no_text_is_refused(
    tmp_path: Path, splits: dict[str, list[Any]], says: str
) -> None:
    with pytest.raises(MissingDataError, match=says):
        load_corpus(hub(tmp_path, **splits))


def test_a_column_of_another_name_is_told(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"words": "a"}\n')
    with pytest.raises(MissingDataError, match=r"must have a column `text`, but has .*words"):
        load_corpus(Path(f"hub:{tmp_path}"))
