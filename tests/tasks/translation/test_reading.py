"""Every fault of two files, named by file and line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.errors import (
    ByteOrderMarkError,
    EmptyLineError,
    EmptySideError,
    MisalignedError,
    PackedFileError,
    TextEncodingError,
)
from embshare.tasks.translation.reading import align, numbered_lines
from embshare.tasks.translation.task import Translation
from tests.tasks.translation.data import write_folder


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
    with pytest.raises(MisalignedError) as caught:
        prepare(folder)
    count = len(lines)
    assert str(caught.value) == (
        f"`{source}` and `{target}` must have a line for each line of the other, but have "
        f"{count} and {count - 1}: `{source}`, line {count}, is without a partner. Lines are lost "
        "or added somewhere before it: fetch both files again."
    )


def test_an_empty_line_is_an_error_or_a_pair_less(folder: Path) -> None:
    replace(folder / "train.de", 7, b"  \t")
    replace(folder / "train.de", 9, b"")
    with pytest.raises(EmptyLineError) as caught:
        prepare(folder)
    assert str(caught.value) == (
        f"`{folder / 'train.de'}`, line 7, must hold a sentence, but is empty (and 1 more are "
        "empty). Remove the line from both files, or leave such pairs out with `empty_lines` = "
        "skip."
    )
    splits = prepare(folder, "skip")["splits"]
    assert isinstance(splits, dict)
    assert (splits["train"]["pairs"], splits["train"]["empty_left_out"]) == (98, 2)


def test_a_test_set_never_loses_a_pair(folder: Path) -> None:
    replace(folder / "test.en", 2, b"")
    with pytest.raises(EmptyLineError, match=r"test\.en`, line 2, .* Remove the line from both f"):
        prepare(folder, "skip")


@pytest.mark.parametrize("line", [1, 5])
def test_a_byte_order_mark_is_an_error(folder: Path, line: int) -> None:
    replace(folder / "train.en", line, b"\xef\xbb\xbfone and two")
    with pytest.raises(ByteOrderMarkError) as caught:
        prepare(folder)
    assert str(caught.value) == (
        f"`{folder / 'train.en'}`, line {line}, must begin with a sentence, but begins with a byte "
        "order mark, which would become a part of its first word. Remove it, for example with "
        "`sed -i 's/\\xef\\xbb\\xbf//'`."
    )


@pytest.mark.parametrize(
    ("line", "text", "byte", "guess"),
    [(3, "fünf".encode("latin1"), "0xfc", "latin1"), (1, "fünf".encode("utf-16"), "0xff", "utf-16"),
     (4, "drei".encode("utf-16-le"), "0x00", "utf-16")],
)  # fmt: skip
def test_another_encoding_is_an_error(
    folder: Path, line: int, text: bytes, byte: str, guess: str
) -> None:
    replace(folder / "valid.de", line, text)
    with pytest.raises(TextEncodingError) as caught:
        prepare(folder)
    assert str(caught.value) == (
        f"`{folder / 'valid.de'}`, line {line}, must be UTF-8, but has the byte {byte} where no "
        f"character can have it. Convert the file, for example with `iconv -f {guess} -t utf-8`."
    )


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_empty_split_is_an_error(folder: Path, text: str) -> None:
    (folder / "valid.en").write_text(text)
    with pytest.raises(EmptySideError, match=r"valid\.en` must hold the sentences of the split `"):
        prepare(folder)


def test_pairs_that_are_all_too_long_are_an_error(folder: Path) -> None:
    config = TranslationConfig(data=folder, vocabulary_size=300, max_length=2)
    with pytest.raises(EmptySideError, match="without pairs of more than 2 tokens"):
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
def test_a_packed_file_that_is_none_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], finding: str
) -> None:
    file = tmp_path / "a.de.gz"
    file.write_bytes(damage(gzip.compress(b"eins\nzwei\ndrei\n" * 50, mtime=0)))
    with pytest.raises(PackedFileError) as caught:
        numbered_lines(file)
    message = str(caught.value)
    assert message.startswith(f"`{file}` must be a whole gzip file, but cannot be unpacked (")
    assert finding in message
    assert message.endswith("Fetch it again, or take .gz off its name where it is plain text.")


def test_numbers_are_those_of_the_file() -> None:
    with pytest.raises(EmptyLineError, match=r"`b`, line 9, must hold a sentence"):
        align([(3, "a"), (8, "b")], [(4, "c"), (9, "")], places=("a", "b"), split="train")
