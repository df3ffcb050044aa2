"""More sentences: the official ones, word for word, and what is done about other input."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizer, ByT5Tokenizer

from embshare.errors import InvalidValueError
from embshare.tasks.elastic import augmentation
from embshare.tasks.elastic.augmentation import (
    GLUE_FILES,
    STOP_WORDS,
    Augmenter,
    GlueFile,
    WordVectors,
    augment_file,
)
from embshare.tasks.errors import DataError, MissingDataError
from tests.integration.models.dynabert.make_official import (
    CANDIDATES,
    CHANCE,
    SEED,
    SENTENCES,
    SPECIAL,
    VARIANTS,
    WORDS,
)
from tests.integration.models.dynabert.official import arrays, masked_lm, under


@cache
def tokenizer() -> Any:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS, ",", "."])}
    return BertTokenizer(vocab=vocabulary)


@pytest.fixture
def vectors(tmp_path: Path) -> WordVectors:
    file = tmp_path / "vectors.txt"
    file.write_text(arrays()["augmentation/vectors"])
    return WordVectors.read(file)


def augmenter(vectors: WordVectors | None = None, **changed: Any) -> Augmenter:
    settings: dict[str, Any] = {
        "candidates": CANDIDATES,
        "variants": VARIANTS,
        "probability": CHANCE,
    }
    return Augmenter(
        model=masked_lm(), tokenizer=tokenizer(), vectors=vectors, **(settings | changed)
    )


def made(maker: Augmenter) -> dict[str, list[str]]:
    generator = random.Random(SEED)
    return {str(i): maker.augment(sentence, generator) for i, sentence in enumerate(SENTENCES)}


def test_the_official_sentences(vectors: WordVectors) -> None:
    official = under("augmentation/sentences/")
    assert made(augmenter(vectors)) == official
    assert sum(map(len, official.values())) > 15


@pytest.mark.parametrize(
    "changed",
    [{"probability": 0.6}, {"candidates": 2}, {"variants": 5}, {"stop_words": frozenset()}],
)
def test_other_settings_make_others(changed: dict[str, Any], vectors: WordVectors) -> None:
    assert made(augmenter(vectors, **changed)) != under("augmentation/sentences/")


def test_what_may_be_replaced(vectors: WordVectors) -> None:
    maker = augmenter(vectors)
    found = maker.replacements("The big cat's runner, in 1990!")
    words = maker.words("The big cat's runner, in 1990!")
    assert words == ["the", "big", "cat", "'", "s", "runner", ",", "in", "1990", "!"]
    assert sorted(found) == [1, 2, 5]  # no stop words, numbers or marks
    assert found[5] == vectors.nearest("runner", CANDIDATES)
    assert all(not word.startswith("##") for word in found[1])


def test_without_vectors_a_cut_word_stays() -> None:
    assert augmenter().replacements("a runner")[1] == ["runner"]


def test_a_word_beyond_the_models_positions_stays() -> None:
    found = augmenter().replacements(" ".join(["cat"] * 40))
    assert found[39] == ["cat"] and found[30] != ["cat"]


def test_the_case_of_a_cut_word_is_kept(vectors: WordVectors) -> None:
    maker = augmenter(vectors)
    assert maker._neighbours("running")[0] == vectors.nearest("running", 1)[0]
    vectors.place["Running"] = vectors.place["running"]
    assert maker._neighbours("Running")[0] == vectors.nearest("running", 1)[0].title()


def test_variants_differ_and_the_sentence_is_first(vectors: WordVectors) -> None:
    found = augmenter(vectors, variants=50).augment(SENTENCES[1], random.Random(1))
    assert found[0] == SENTENCES[1] and len(found) == len(set(found)) < 51
    again = augmenter(vectors, variants=50).augment(SENTENCES[1], random.Random(1))
    assert found == again


def test_a_pair_officially_and_cleanly() -> None:
    row = ["7", "cat dog", "tree house", "1"]
    maker = augmenter(variants=3, probability=1.0)
    official = list(augmentation.augment_row(row, (1, 2), maker, random.Random(0)))
    firsts = [made for made in official if made[2] == row[2]]
    assert official[0] == row and len(firsts) > 1
    last = [made for made in official if made[2] != row[2]]
    assert last and {made[1] for made in last} == {firsts[-1][1]} != {row[1]}
    clean = augmentation.augment_row(row, (1, 2), maker, random.Random(0), keep_last=False)
    assert {made[1] for made in clean if made[2] != row[2]} == {row[1]}
    assert {(made[0], made[3]) for made in official} == {("7", "1")}


def test_a_table(tmp_path: Path) -> None:
    source, target = tmp_path / "train.tsv", tmp_path / "train_aug.tsv"
    source.write_text('sentence\tlabel\nthe "big" cat\t1\na red tree\t0\n')
    count = augment_file(source, target, GLUE_FILES["SST-2"], augmenter(variants=3))
    lines = target.read_text().splitlines()
    assert lines[:2] == ["sentence\tlabel", 'the "big" cat\t1']
    assert len(lines) == count + 1 > 4
    assert {line.split("\t")[1] for line in lines[1:]} == {"0", "1"}
    again = tmp_path / "again.tsv"
    augment_file(source, again, GLUE_FILES["SST-2"], augmenter(variants=3))
    assert again.read_text() == target.read_text()


def test_a_table_without_a_header(tmp_path: Path) -> None:
    source = tmp_path / "train.tsv"
    source.write_text("x\t1\t\tred tree\n")
    maker = augmenter(variants=1)
    assert augment_file(source, tmp_path / "out.tsv", GLUE_FILES["CoLA"], maker) >= 1
    assert (tmp_path / "out.tsv").read_text().startswith("x\t1\t\tred tree\n")


def test_a_row_that_is_too_short_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "train.tsv"
    source.write_text("head\tof\nred tree\tcat\nalone\n")
    with pytest.raises(DataError, match="line 3, must have more than 1 cells, but has 1") as caught:
        augment_file(source, tmp_path / "out.tsv", GlueFile((0, 1), 1), augmenter(variants=1))
    assert (caught.value.path, caught.value.line) == (source, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["train.tsv"]


def test_published_tables() -> None:
    assert {name: layout.variants for name, layout in GLUE_FILES.items()} == {
        "CoLA": 30, "MNLI": 10, "MRPC": 30, "QNLI": 20, "QQP": 10, "RTE": 30, "SST-2": 20,
        "STS-B": 30,
    }  # fmt: skip
    assert [name for name, layout in GLUE_FILES.items() if not layout.header] == ["CoLA"]
    assert len(STOP_WORDS) == 173 and "what" not in STOP_WORDS


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"candidates": 0}, "`candidates` must be at least 1, but is 0"),
        ({"variants": 0}, "`variants` must be at least 1, but is 0"),
        ({"probability": 0.0}, "`probability` must be above 0 and at most 1, but is 0.0"),
    ],
)
def test_settings_are_checked(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidValueError, match=fault):
        augmenter(**changed)


def test_a_tokenizer_of_another_kind() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Augmenter(model=masked_lm(), tokenizer=ByT5Tokenizer())
    assert caught.value.faults == (
        "`tokenizer` must be a fast WordPiece tokenizer with '##', as BERT's, but is a "
        "ByT5Tokenizer",
    )


def test_neighbours_of_a_word() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.0, 0.0]])
    found = WordVectors(["a", "b", "c", "nothing"], vectors)
    assert found.nearest("a", 5) == ["b", "c"]  # by angle, not by length; not itself
    assert found.nearest("c", 1) == ["b"]
    assert found.nearest("unknown", 3) == []


@pytest.mark.parametrize(
    ("text", "line", "needs"),
    [
        ("", None, "hold words and vectors"),
        ("a 1 2\nb 1\n", 2, "have a word and 2 numbers, divided by spaces"),
        ("a 1\nb 1 2\n", 2, "have a word and 1 numbers, divided by spaces"),
        ("a 1 x\n", 1, "have a word and its numbers, divided by spaces"),
        ("a\n", 1, "have a word and its numbers, divided by spaces"),
    ],
)
def test_a_broken_file_of_vectors(text: str, line: int | None, needs: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        WordVectors.read(file)
    assert (caught.value.path, caught.value.line, caught.value.needs) == (file, line, needs)


def test_a_file_of_vectors_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="Name a local file in GloVe's text format"):
        WordVectors.read(tmp_path / "glove.txt")


def test_only_the_first_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("a 1 0\nb 1 1\nc 0 1\n")
    assert WordVectors.read(file, limit=2).words == ["a", "b"]
