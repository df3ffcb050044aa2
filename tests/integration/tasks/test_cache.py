"""The cache: what is found in it equals what would be made, to the last bit, or it is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embshare.tasks import cache
from embshare.tasks.cache import CACHE, CacheWarning, cache_folder, hash_texts, kept
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.engine import run
from embshare.tasks.task import Batch, PreparedTask, described
from embshare.tasks.text.rows import _dumped, _loaded
from embshare.tasks.text.tokenizer import TextTokenizer
from tests._support.run_example import config
from tests._support.task_examples import EXAMPLES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    found = tmp_path / "cache"
    monkeypatch.setenv(CACHE, str(found))
    return found


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def never(*_: Any) -> None:
    raise AssertionError("something was made that the cache has")


def content(prepared: PreparedTask) -> tuple[dict[str, Any], list[Batch]]:
    """All that a training sees of its data: their description, and the rows in batches."""
    feed = prepared.feed()
    rows: Any = feed.rows
    collate: Callable[[list[Any]], Batch] = feed.collate or torch.utils.data.default_collate
    numbers = list(range(len(rows)))
    batches = [collate([rows[n] for n in numbers[b : b + 7]]) for b in range(0, len(numbers), 7)]
    return described(prepared), batches


def equal(one: tuple[dict[str, Any], list[Batch]], other: Any) -> bool:
    assert one[0] == other[0]
    return len(one[1]) == len(other[1]) and all(
        list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)
        for left, right in zip(one[1], other[1], strict=True)
    )


@pytest.mark.parametrize("name", TASKS)
def test_data_from_the_cache_equal_those_that_are_made(
    name: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    settings = EXAMPLES[name].settings(data)

    def prepare(**changes: Any) -> PreparedTask:
        made = TASKS[name].settings_class()(**settings, **changes)
        return TASKS[name].task(made).prepare()

    with monkeypatch.context() as patched:
        patched.setenv(CACHE, "off")
        made = content(prepare())
    assert not folder.exists()
    assert equal(content(prepare()), made)
    assert entries(folder)
    with monkeypatch.context() as patched:
        patched.setattr(cache, "_write", never)
        assert equal(content(prepare()), made)
        settings |= {"width": 8, "layers": 1, "dropout": 0.3, "heads": 1, "eval_limit": 3}
        assert equal(content(prepare()), made)


@pytest.mark.parametrize("name", ["language_modelling", "glue"])
def test_a_run_with_the_cache_is_the_one_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curve(out: str) -> tuple[Any, bytes]:
        result = run(config(tmp_path, name, out=tmp_path / out, training={"log_every": 1}))
        weights = (tmp_path / out / "model" / "model.safetensors").read_bytes()
        return (result.metrics, result.training_loss, result.data), weights

    without = curve("off")
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    assert curve("cold") == without
    assert curve("warm") == without


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "long", "other"])
def test_a_damaged_entry_is_made_anew(damage: str, folder: Path) -> None:
    texts = ["the dog sees a cat", "a cat"] * 3

    def make() -> tuple[str, list[int]]:
        learned = TextTokenizer.learn(texts, 300)
        return learned.fingerprint, learned.encode_corpus("the cat\nsees").tolist()

    made = make()
    paths = entries(folder)
    whole = [path.read_bytes() for path in paths]
    assert len(paths) == 2
    for path, raw in zip(paths, whole, strict=True):
        changed = bytearray(raw)
        changed[len(raw) // 2] ^= 1
        found: dict[str, bytes] = {
            "empty": b"",
            "short": raw[:-1],
            "flipped": bytes(changed),
            "long": raw + b"\0",
            "other": b"{}",
        }
        path.write_bytes(found[damage])
    assert make() == made
    assert [path.read_bytes() for path in paths] == whole
    assert entries(folder) == paths


def test_everything_that_changes_a_vocabulary_is_in_its_key(folder: Path) -> None:
    texts = ["The dog sees 10 cats", "a cat"] * 3
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    asked: list[dict[str, Any]] = [
        {"size": 300},
        {"size": 301},
        {"size": 300, "lowercase": False},
        {"size": 300, "prefix_space": False},
        {"size": 300, "split_digits": True},
        {"size": 300, "special": special},
        {"size": 300, "special": dict(reversed(special.items()))},
        {"size": 60, "kind": "wordpiece"},
        {"size": 60, "kind": "wordpiece", "lowercase": False},
        {"size": None, "kind": "words", "special": special},
        {"size": None, "kind": "words", "special": special, "min_count": 4},
    ]
    for number, settings in enumerate(asked, 1):
        TextTokenizer.learn(texts, **settings)
        assert len(entries(folder)) == number
    TextTokenizer.learn([*texts, "more"], 300)
    assert len(entries(folder)) == len(asked) + 1
    for settings in asked:  # a one-shot iterator is the same text
        TextTokenizer.learn(iter(texts), **settings)
    assert len(entries(folder)) == len(asked) + 1


def test_a_tokenizer_that_reads_special_tokens_encodes_for_itself(folder: Path) -> None:
    learn = TextTokenizer.learn
    reads, ordinary = (learn(["a b"], 300, reads_special=reads) for reads in (True, False))
    text = "a [MASK] b"
    for _ in range(2):
        assert reads.encode_corpus(text).tolist() == reads.encode_text(text).tolist()
        assert ordinary.encode_corpus(text).tolist() == ordinary.encode_text(text).tolist()
    assert reads.encode_corpus(text).tolist() != ordinary.encode_corpus(text).tolist()


def test_an_entry_of_another_format_or_package_is_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(0)
        return b"x"

    def ask() -> bytes:
        return kept("bytes", ["x"], make, dump=bytes, load=bytes)

    assert ask() == ask() == b"x"
    assert len(made) == 1
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    ask()
    monkeypatch.setattr(cache, "version", lambda name: "another")
    ask()
    assert len(made) == 3


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setenv(CACHE, str(file))
    with pytest.warns(CacheWarning, match="made again by the next run") as caught:
        assert kept("bytes", ["x"], lambda: b"x", dump=bytes, load=bytes) == b"x"
    assert caught[0].message.path.parent.parent == file  # type: ignore[union-attr]
    assert file.read_text() == "mine"


def test_the_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for off in ("off", ""):
        monkeypatch.setenv(CACHE, off)
        assert cache_folder() is None
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "embshare"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "embshare"


ASK = """
import sys
from embshare.tasks.cache import kept
for number in range(200):
    raw = str(number).encode() * 5000
    assert kept("bytes", [number], lambda: raw, dump=bytes, load=bytes) == raw
"""


def test_processes_make_the_same_at_once(folder: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", ASK]) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert len(entries(folder)) == 200  # and none of a half-written file
    shutil.rmtree(folder)


@given(st.lists(st.text(max_size=4), max_size=5), st.lists(st.text(max_size=4), max_size=5))
def test_texts_have_one_hash_if_they_are_equal(one: list[str], other: list[str]) -> None:
    assert (hash_texts(one) == hash_texts(other)) == (one == other)


numbers = st.integers(-1, 2**31 - 1)


@given(st.lists(st.tuples(st.lists(numbers, max_size=4), numbers, st.lists(numbers)), max_size=4))
def test_rows_are_read_as_they_were_written(
    columns: list[tuple[list[int], int, list[int]]],
) -> None:
    rows = [{"input_ids": one, "label": two, "a kind": three} for one, two, three in columns]
    again = _loaded(_dumped(rows))
    assert again == rows
    assert [list(row) for row in again] == [list(row) for row in rows]
