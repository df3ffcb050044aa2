"""Tokens on disk, rows of them, and their order."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset  # type: ignore[import-untyped]

from embshare.errors import InvalidValueError
from embshare.tasks.errors import DataError
from embshare.tasks.pretraining.data import Piece, Tokens, encode_to_disk
from embshare.tasks.pretraining.rows import EPOCHS, RowBatches, Rows, Stage
from embshare.tasks.text.tokenizer import TextTokenizer


def rows(folder: Path, count: int = 1000, length: int = 12, late: int | None = None) -> Rows:
    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for block in np.array_split(np.arange(count, dtype="uint16"), 7):
            yield {"tokens": block}

    name = f"{count}-{length}-{late}"
    made = Dataset.from_generator(
        blocks, cache_dir=str(folder), fingerprint=name, writer_batch_size=2
    )
    return Rows(Tokens(made), begin=1, end=2, length=length, late_length=late)


def encode(
    pieces: list[Piece], tokenizer: TextTokenizer, folder: Path, most: int | None = None
) -> Tokens:
    return encode_to_disk(pieces, tokenizer, folder, fingerprint=f"train-{most}", most=most)


def test_documents_are_separated_and_the_file_is_found_again(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    pieces = [Piece("the dogs\n", True), Piece("foxes\n", False), Piece("rivers\n", True)]
    folder = tmp_path / "deep"
    made = encode(pieces, tokenizer, folder)
    one, two, three = tokenizer.ids([piece.text for piece in pieces])
    wanted = [*one, *two, tokenizer.special_ids["sep_token_id"], *three]
    assert made.read().tolist() == wanted and len(made) == len(wanted)
    assert made.read().dtype == np.uint16
    before = made.path.stat().st_mtime_ns
    again = encode([], tokenizer, folder)  # nothing is read
    assert again.read().tolist() == wanted
    assert (again.path, again.path.stat().st_mtime_ns) == (made.path, before)
    few = encode(pieces, tokenizer, folder, most=3)
    assert few.read().tolist() == one[:3] + two[: 3 - len(one)]


def test_a_text_is_read_as_far_as_needed(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    read = []

    def endless() -> Iterator[Piece]:
        for number in itertools.count():
            read.append(number)
            yield Piece("the dogs\n", number == 0)

    made = encode_to_disk(endless(), tokenizer, tmp_path, fingerprint="a", most=1000)
    assert len(made) == 1000 and len(read) < 1000


def test_a_text_without_any_token_is_empty(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    assert len(encode([], tokenizer, tmp_path)) == 0


def test_a_text_that_cannot_be_read_leaves_no_file(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    fault = DataError(tmp_path, 3, needs="be UTF-8", has="is not", hint="Convert it.")

    def broken() -> Iterator[Piece]:
        yield from [Piece("the dogs\n", True)] * 300
        raise fault

    with pytest.raises(DataError, match="line 3, must be UTF-8") as caught:
        encode_to_disk(broken(), tokenizer, tmp_path, fingerprint="a", most=None)
    assert caught.value is fault
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".arrow", ".json")] == []
    pieces = [Piece("the dogs\n", True)]
    made = encode_to_disk(pieces, tokenizer, tmp_path, fingerprint="a", most=None)
    assert made.read().tolist() == tokenizer.ids(["the dogs\n"])[0]


def test_rows_are_the_stream_end_to_end(tmp_path: Path) -> None:
    found = rows(tmp_path, 1005)
    assert len(found) == 100
    body = np.concatenate([found[i].tokens[1:-1] for i in range(100)])
    assert body.tolist() == list(range(1000))
    assert {(int(found[i].tokens[0]), int(found[i].tokens[-1])) for i in range(100)} == {(1, 2)}
    assert found[3 + 7 * found.total][:3] == (0, 7, 3)
    assert found[3 + (5 * EPOCHS + 7) * found.total][:3] == (5, 7, 3)


def test_late_rows_are_the_same_stream(tmp_path: Path) -> None:
    found = rows(tmp_path, 1005, late=42)
    assert (found.short, found.long, found.total) == (100, 25, 125)
    body = np.concatenate([found[100 + i].tokens[1:-1] for i in range(25)])
    assert body.tolist() == list(range(1000))


def test_rows_travel_without_their_text(tmp_path: Path) -> None:
    found = rows(tmp_path, 30_000)
    _ = found[0]  # opens the file
    sent = pickle.dumps(found)
    assert len(sent) < 4000
    assert pickle.loads(sent)[5].tokens.tolist() == found[5].tokens.tolist()


def numbers(batches: RowBatches, total: int) -> list[list[int]]:
    return [[index % total for index in batch] for batch in batches]


def test_each_epoch_reads_every_row_once_in_another_order(tmp_path: Path) -> None:
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
    assert index // found.total == 3 * EPOCHS + 1


def test_batches_are_a_multiple_of_the_processes(tmp_path: Path) -> None:
    assert len(RowBatches(rows(tmp_path), size=9, seed=0, processes=4)) == 8


def test_rows_become_longer_at_a_batch_of_the_run(tmp_path: Path) -> None:
    found = rows(tmp_path, 4000, length=12, late=48)
    batches = RowBatches(found, size=16, seed=0, late=Stage(first=30))
    lengths = []
    for number in range(3):
        batches.set_epoch(number)
        lengths += [
            (len(batch), {len(found[index].tokens) for index in batch}) for batch in batches
        ]
    assert len(lengths) == 3 * len(batches) == 3 * min(400 // 16, 86 // 4)
    assert lengths[:30] == [(16, {12})] * 30
    assert lengths[30:] == [(4, {48})] * (len(lengths) - 30)


def test_a_text_of_less_than_a_batch_is_refused(tmp_path: Path) -> None:
    message = r"has 100 rows of 12 tokens, but 2 process\(es\) with batches of 64 need 128: lower"
    with pytest.raises(InvalidValueError, match=message):
        RowBatches(rows(tmp_path), size=64, seed=0, processes=2)
