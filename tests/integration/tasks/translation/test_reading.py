"""Errors in the files of two languages, with file and line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from embshare.tasks.errors import DataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import align, numbered_lines
from embshare.tasks.translation.task import Translation
from tests._support.translation_data import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path)


def prepare(folder: Path, empty: str = "error") -> dict[str, object]:
    config = TranslationConfig(data=folder, vocabulary_size=300, empty_lines=empty)  # type: ignore[arg-type]
    return dict(Translation(config).prepare().describe())


def replace(path: Path, line: int, text: bytes) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = text
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_lost_line_is_an_error(folder: Path, split: str) -> None:
    source, target = folder / f"{split}.en", folder / f"{split}.de"
    lines = target.read_text().splitlines()
    target.write_text("\n".join(lines[:-1]) + "\n")
    count = len(lines)
    with pytest.raises(DataError, match=f"have {count} and {count - 1} lines") as caught:
        prepare(folder)
    assert (caught.value.path, caught.value.line) == (source, count)
    assert caught.value.needs == f"have a partner in `{target}`"


def test_an_empty_line_is_an_error_or_a_pair_less(folder: Path) -> None:
    replace(folder / "train.de", 7, b"  \t")
    replace(folder / "train.de", 9, b"")
    with pytest.raises(DataError, match="or leave such pairs out with `empty_lines` = ") as caught:
        prepare(folder)
    assert (caught.value.path, caught.value.line) == (folder / "train.de", 7)
    assert caught.value.has == "is empty (and 1 more are empty)"
    splits = prepare(folder, "skip")["splits"]
    assert isinstance(splits, dict)
    assert (splits["train"]["pairs"], splits["train"]["empty_left_out"]) == (98, 2)


def test_a_test_set_never_loses_a_pair(folder: Path) -> None:
    replace(folder / "test.en", 2, b"")
    with pytest.raises(DataError, match=r"test\.en`, line 2, .* Remove the line from both f"):
        prepare(folder, "skip")


@pytest.mark.parametrize("line", [1, 5])
def test_a_byte_order_mark_is_an_error(folder: Path, line: int) -> None:
    replace(folder / "train.en", line, b"\xef\xbb\xbfone and two")
    with pytest.raises(DataError, match="begins with a byte order mark") as caught:
        prepare(folder)
    assert (caught.value.path, caught.value.line) == (folder / "train.en", line)
    assert r"`sed -i 's/\xef\xbb\xbf//'`" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "text", "byte", "guess"),
    [(3, "fünf".encode("latin1"), "0xfc", "latin1"), (1, "fünf".encode("utf-16"), "0xff", "utf-16"),
     (4, "drei".encode("utf-16-le"), "0x00", "utf-16")],
)  # fmt: skip
def test_another_encoding_is_an_error(
    folder: Path, line: int, text: bytes, byte: str, guess: str
) -> None:
    replace(folder / "valid.de", line, text)
    with pytest.raises(DataError, match=f"must be UTF-8, but has the byte {byte}") as caught:
        prepare(folder)
    assert (caught.value.path, caught.value.line) == (folder / "valid.de", line)
    assert f"`iconv -f {guess} -t utf-8`" in caught.value.hint


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_empty_split_is_an_error(folder: Path, text: str) -> None:
    (folder / "valid.en").write_text(text)
    with pytest.raises(DataError, match=r"valid\.en` must hold the sentences of the split `"):
        prepare(folder)


def test_pairs_that_are_all_too_long_are_an_error(folder: Path) -> None:
    config = TranslationConfig(data=folder, vocabulary_size=300, max_length=2)
    with pytest.raises(DataError, match="must hold pairs of at most 2 tokens"):
        Translation(config).prepare()


def test_lines_end_with_line_feeds_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.de"
    file.write_bytes("eins\u2028zwei\x0b \r\ndrei\x85\nvier".encode())
    assert numbered_lines(file) == [(1, "eins\u2028zwei"), (2, "drei"), (3, "vier")]
    packed = tmp_path / "a.de.gz"
    packed.write_bytes(gzip.compress(b"eins\nzwei\n"))
    assert numbered_lines(packed) == [(1, "eins"), (2, "zwei")]


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda raw: raw[:-12], "Compressed file ended before the end-of-stream marker"),
        (lambda raw: b"plain text\n", "Not a gzipped file"),
        (lambda raw: raw[:10] + b"\xff" * 20 + raw[30:], "Error -3 while decompressing"),
    ],
)
def test_a_damaged_gzip_file_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], finding: str
) -> None:
    file = tmp_path / "a.de.gz"
    file.write_bytes(damage(gzip.compress(b"eins\nzwei\ndrei\n" * 50, mtime=0)))
    with pytest.raises(DataError, match="must be a complete gzip file") as caught:
        numbered_lines(file)
    assert caught.value.path == file
    assert finding in caught.value.has


def test_numbers_are_those_of_the_file() -> None:
    with pytest.raises(DataError, match=r"`b`, line 9, must hold a sentence"):
        align([(3, "a"), (8, "b")], [(4, "c"), (9, "")], places=("a", "b"), split="train")
