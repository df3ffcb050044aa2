"""Symbols on disk, rows of them, and their order."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embshare.errors import InvalidValueError
from embshare.tasks.pretraining.rows import PASSES, RowBatches, Rows, Stage
from embshare.tasks.pretraining.symbols import Symbols, encode_to_disk
from embshare.tasks.pretraining.text import Piece
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary


def rows(folder: Path, count: int = 1000, length: int = 12, late: int | None = None) -> Rows:
    path = folder / "s.bin"
    path.write_bytes(np.arange(count, dtype="uint16").tobytes())
    return Rows(Symbols(path, count, "uint16"), begin=1, end=2, length=length, late_length=late)


def test_documents_are_separated_and_the_file_is_found_again(
    tmp_path: Path, vocabulary: MaskedVocabulary
) -> None:
    pieces = [Piece("the dogs\n", True), Piece("foxes\n", False), Piece("rivers\n", True)]
    path = tmp_path / "deep" / "train.bin"
    made = encode_to_disk(pieces, vocabulary, path, most=None)
    one, two, three = vocabulary.encode([piece.text for piece in pieces])
    assert made.array.tolist() == [*one, *two, vocabulary.symbols["sep_token_id"], *three]
    assert made.kind == "uint16"
    assert Symbols.found(path) == made
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    path.write_bytes(path.read_bytes()[:-2])  # a torn file is not taken
    assert Symbols.found(path) is None
    assert (
        encode_to_disk(pieces, vocabulary, path, most=3).array.tolist()
        == one[:3] + two[: 3 - len(one)]
    )


def test_a_text_that_cannot_be_read_leaves_no_file(
    tmp_path: Path, vocabulary: MaskedVocabulary
) -> None:
    def broken() -> Iterator[Piece]:
        yield from [Piece("the dogs\n", True)] * 300
        raise OSError

    with pytest.raises(OSError):
        encode_to_disk(broken(), vocabulary, tmp_path / "train.bin", most=None)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_the_stream_end_to_end(tmp_path: Path) -> None:
    found = rows(tmp_path, 1005)
    assert len(found) == 100
    body = np.concatenate([found[i].symbols[1:-1] for i in range(100)])
    assert body.tolist() == list(range(1000))
    assert {(int(found[i].symbols[0]), int(found[i].symbols[-1])) for i in range(100)} == {(1, 2)}
    assert found[3 + 7 * found.total][:2] == (7, 3)


def test_late_rows_are_the_same_stream(tmp_path: Path) -> None:
    found = rows(tmp_path, 1005, late=42)
    assert (found.short, found.long, found.total) == (100, 25, 125)
    body = np.concatenate([found[100 + i].symbols[1:-1] for i in range(25)])
    assert body.tolist() == list(range(1000))


def test_rows_travel_without_their_text(tmp_path: Path) -> None:
    found = rows(tmp_path, 30_000)
    _ = found[0]  # opens the file
    sent = pickle.dumps(found)
    assert len(sent) < 2000
    assert pickle.loads(sent)[5].symbols.tolist() == found[5].symbols.tolist()


def numbers(batches: RowBatches, total: int) -> list[list[int]]:
    return [[index % total for index in batch] for batch in batches]


def test_each_pass_reads_every_row_once_in_another_order(tmp_path: Path) -> None:
    found = rows(tmp_path)
    batches = RowBatches(found, size=10, seed=3)
    first = numbers(batches, found.total)
    batches.set_epoch(1)
    second = numbers(batches, found.total)
    assert len(batches) == len(first) == 10
    for read in (first, second):
        assert sorted(itertools.chain(*read)) == list(range(100))
    assert first != second
    assert first == numbers(RowBatches(found, size=10, seed=3), found.total)
    assert first != numbers(RowBatches(found, size=10, seed=4), found.total)
    (index, *_), *_ = batches
    assert index // found.total == 3 * PASSES + 1


def test_batches_are_a_multiple_of_the_processes(tmp_path: Path) -> None:
    assert len(RowBatches(rows(tmp_path), size=9, seed=0, processes=4)) == 8


def test_rows_become_longer_at_a_batch_of_the_run(tmp_path: Path) -> None:
    found = rows(tmp_path, 4000, length=12, late=48)
    batches = RowBatches(found, size=16, seed=0, late=Stage(first=30))
    lengths = []
    for number in range(3):
        batches.set_epoch(number)
        lengths += [
            (len(batch), {len(found[index].symbols) for index in batch}) for batch in batches
        ]
    assert len(lengths) == 3 * len(batches) == 3 * min(400 // 16, 86 // 4)
    assert lengths[:30] == [(16, {12})] * 30
    assert lengths[30:] == [(4, {48})] * (len(lengths) - 30)


def test_a_text_of_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    message = r"has 100 rows of 12 symbols, but 2 process\(es\) with batches of 64 need 128: lower"
    with pytest.raises(InvalidValueError, match=message):
        RowBatches(rows(tmp_path), size=64, seed=0, processes=2)
