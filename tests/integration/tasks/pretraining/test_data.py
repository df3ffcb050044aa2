"""Texts of every kind, in pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.data import Piece, Text, encode_to_disk, open_text
from embshare.tasks.pretraining.task import learn_tokenizer

WIKI = " \n = One = \n \n first line \n = = Part = = \n second \n = Two = \n third \n"


def text(folder: Path, **changes: Any) -> Text:
    return open_text(PretrainingConfig(data=folder, **changes))


def pieces(found: Text, side: str = "train") -> list[Piece]:
    return list(found.pieces(side))  # type: ignore[arg-type]


def test_articles_are_documents(tmp_path: Path) -> None:
    for side in ("train", "valid"):
        (tmp_path / f"wiki.{side}.tokens").write_text(WIKI)
    found = pieces(text(tmp_path))
    assert [piece.first for piece in found] == [True, True]
    assert "second" in found[0].text and found[1].text == " = Two = \n third \n"
    assert pieces(text(tmp_path), "valid") == found


def test_blank_lines_end_documents_if_asked(tmp_path: Path) -> None:
    for side in ("train", "valid"):
        (tmp_path / f"{side}.txt").write_text("a\nb\n\n\nc\n")
    assert [p.text for p in pieces(text(tmp_path))] == ["a\nb\nc\n"]
    found = pieces(text(tmp_path, documents="blank"))
    assert found == [Piece("a\nb\n", True), Piece("c\n", True)]


def test_any_files_are_a_text_with_a_set_held_out(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    lines = [f"line {number}\n" for number in range(64 * 12)]
    (tmp_path / "a.txt").write_text("".join(lines[:400]))
    (tmp_path / "deep" / "b.txt").write_text("".join(lines[400:])[:-1])  # no newline at its end
    found = text(tmp_path, held_out=4)
    train, valid = pieces(found), pieces(found, "valid")
    together = "".join(piece.text for piece in train + valid).splitlines(keepends=True)
    assert sorted(together) == sorted(lines)
    assert len(train) == 10 and len(valid) == 3
    assert all(piece.first for piece in valid)  # what stood before them is not there
    assert not set(train[0].text.splitlines()) & set(valid[0].text.splitlines())
    assert [piece.first for piece in train[:4]] == [True, False, False, True]


def test_a_mark_at_the_beginning_and_wide_characters_are_read(tmp_path: Path) -> None:
    lines = ["ä" * (number % 9) + f"{number}\n" for number in range(300)]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    found = text(tmp_path, held_out=2)
    both = "".join(p.text for side in ("train", "valid") for p in pieces(found, side))
    assert sorted(both.splitlines(keepends=True)) == sorted(lines)


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xe9\n")
    with pytest.raises(DataError, match=r"line 3, must be UTF-8, but has the byte 0xe9"):
        pieces(text(tmp_path))


def test_a_mark_at_the_beginning_goes_and_line_ends_are_as_here(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert pieces(text(tmp_path)) == [Piece("one\ntwo\n", True)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_told_for_what_it_is(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("one\ntwo\n".encode(encoding))
    with pytest.raises(DataError, match=r"line 1, .*`iconv -f utf-16 -t utf-8`"):
        pieces(text(tmp_path))


def test_a_zero_byte_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nth\0ree\n")
    with pytest.raises(DataError, match=r"line 3, must be UTF-8, but has the byte 0x00"):
        pieces(text(tmp_path))


LONG = "the  quick\t brown fox, (jumped) over. lazy\u3000dogs ## walked \u00e4 " * 30


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_the_parts_of_a_long_line_have_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    monkeypatch.setattr("embshare.tasks.pretraining.data.LONGEST", 40)
    config = PretrainingConfig(vocabulary_size=320, tokenization=way)
    tokenizer = learn_tokenizer(config, [LONG])
    for side in ("train", "valid"):
        (tmp_path / f"{side}.txt").write_text(f"{LONG}\nshort\nlines\n", encoding="utf-8")
    found = pieces(text(tmp_path))
    assert "".join(piece.text for piece in found) == f"{LONG}\nshort\nlines\n"
    assert len(found) > 40 and [piece.first for piece in found].count(True) == 1
    assert max(len(piece.text) for piece in found[:-1]) <= 40
    made = encode_to_disk(found, tokenizer, tmp_path / "cache", fingerprint="a", most=None)
    (wanted,) = tokenizer.ids([f"{LONG}\nshort\nlines\n"])
    assert made.read().tolist() == wanted


def test_a_long_line_has_a_set_held_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words " * 100_000)
    found = text(tmp_path)
    train, valid = pieces(found), pieces(found, "valid")
    assert len(valid) == 3 and len(train) == 65
    assert sum(len(piece.text) for piece in train + valid) == 1_100_001


def test_a_long_line_without_a_blank_is_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\u4e00" * 40_000, encoding="utf-8")
    found = pieces(text(tmp_path))
    assert [len(piece.text) for piece in found] == [2**14, 2**14, 40_001 - 2**15]


@pytest.mark.parametrize("documents", ["title", "blank"])
def test_a_long_row_of_a_data_set_is_cut(tmp_path: Path, documents: Any) -> None:
    name = hub(tmp_path / "set", train=["some words " * 4_000, "more"], validation=["a"])
    found = pieces(open_text(PretrainingConfig(data=Path(f"hub:{name}"), documents=documents)))
    assert max(len(piece.text) for piece in found) <= 2**14
    assert "".join(piece.text for piece in found).split() == ["some", "words"] * 4_000 + ["more"]


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"any files \*\.txt, but it has no such file"):
        text(tmp_path)
    with pytest.raises(MissingDataError, match="there is no such folder"):
        text(tmp_path / "nothing")


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    before = text(tmp_path).fingerprint
    assert text(tmp_path).fingerprint == before
    (tmp_path / "b.txt").write_text("b\n")
    assert text(tmp_path).fingerprint != before


def hub(folder: Path, **sides: Sequence[str | None]) -> str:
    folder.mkdir(exist_ok=True)
    for side, rows in sides.items():
        lines = (json.dumps({"text": row}) for row in rows)
        (folder / f"{side}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_a_data_set_is_a_stream(tmp_path: Path) -> None:
    name = hub(tmp_path / "set", train=["one\ntwo", "three"], validation=["four"])
    found = open_text(PretrainingConfig(data=Path(f"hub:{name}")))
    assert pieces(found) == [Piece("one\ntwo", True), Piece("three", True)]
    assert pieces(found, "valid") == [Piece("four", True)]
    assert pieces(found) == pieces(found)


def test_a_data_set_without_a_validation_set_is_held_out_from(tmp_path: Path) -> None:
    name = hub(tmp_path / "set", train=[f"row {number}" for number in range(30)])
    found = open_text(PretrainingConfig(data=Path(f"hub:{name}"), held_out=3))
    assert len(pieces(found)) == 20 and len(pieces(found, "valid")) == 10


def test_wikitext_of_the_hub_has_articles(tmp_path: Path) -> None:
    rows = WIKI.splitlines(keepends=True)
    name = hub(tmp_path / "set", train=rows, validation=rows)
    assert [p.first for p in pieces(open_text(PretrainingConfig(data=Path(f"hub:{name}"))))] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [("set", "words", "it has no column `words`"), ("none", "text", "but it cannot")],
)
def test_a_data_set_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, column: str, message: str
) -> None:
    hub(tmp_path / "set", train=["a"])
    with pytest.raises(MissingDataError, match=message):
        open_text(PretrainingConfig(data=Path(f"hub:{tmp_path / name}"), column=column))


@pytest.mark.parametrize("documents", ["title", "blank"])
@pytest.mark.parametrize("side", ["train", "valid"])
def test_a_row_without_a_text_is_told(tmp_path: Path, side: str, documents: Any) -> None:
    texts = ["a", "b", None, "c"]
    name = hub(tmp_path / "set", train=texts, validation=texts)
    split = "train" if side == "train" else "validation"
    found = open_text(PretrainingConfig(data=Path(f"hub:{name}"), documents=documents))
    message = rf"`{split}\[2\]`, must have a string in its column `text`, but has None"
    with pytest.raises(DataError, match=message):
        pieces(found, side)


def test_the_fingerprint_follows_the_files_of_a_data_set(tmp_path: Path) -> None:
    config = PretrainingConfig(data=Path("hub:" + hub(tmp_path / "set", train=["one"])))
    before = open_text(config).fingerprint
    assert open_text(config).fingerprint == before
    hub(tmp_path / "set", train=["other"])
    assert before is not None and open_text(config).fingerprint not in (before, None)


def test_the_fingerprint_follows_the_revision_of_a_set_of_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets  # type: ignore[import-untyped]

    rows = datasets.Dataset.from_dict({"text": ["one"]}).to_iterable_dataset()

    def fingerprint(revision: str | None) -> str | None:
        streams = SimpleNamespace(hash=revision, as_streaming_dataset=lambda: {"train": rows})
        monkeypatch.setattr(datasets, "load_dataset_builder", lambda name, config: streams)
        return open_text(PretrainingConfig(data=Path("hub:someone/some-set"))).fingerprint

    assert fingerprint("1") == fingerprint("1") != fingerprint("2")
    assert fingerprint(None) is None
