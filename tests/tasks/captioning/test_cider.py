"""CIDEr-D: equal to pycocoevalcap's, whose numbers are written here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.tasks.captioning.cider import (
    MOST_WORDS,
    Frequencies,
    cider_d,
    ngram_keys,
    pad_references,
    pad_rows,
)

REFERENCES = [
    ["a man rides a brown horse", "a man on a horse on the beach", "man riding"],
    ["two dogs play in the snow", "dogs are playing in deep snow"],
    ["a man and a dog on the beach", "a dog runs", "the man the man the man", "a"],
    ["a red train stops at a station"],
]
CAPTIONS = ["a man rides a horse a man", "two dogs", "the man the man the beach the man", "zebra"]
# pycocoevalcap 1.2, Cider().compute_score of these.
EXPECTED = [2.2583181290, 1.3668969037, 2.0299004618, 0.0000000000]


def score(captions: list[str], references: list[list[str]]) -> list[float]:
    numbers: dict[str, int] = {}

    def encode(line: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in line.split()]

    known = [[encode(line) for line in lines] for lines in references]
    words, lengths = pad_rows([encode(line) for line in captions])
    frequencies = Frequencies.count(known, base=len(numbers))
    found: list[float] = cider_d(words, lengths, *pad_references(known), frequencies).tolist()
    return found


def test_it_equals_the_published_program() -> None:
    assert score(CAPTIONS, REFERENCES) == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.data
def test_it_equals_the_published_program_on_a_thousand_captions(data: Path) -> None:
    folder = data / "coco_caption_eval"
    references = json.loads((folder / "gts_tokenized.json").read_text())
    captions = json.loads((folder / "res_tokenized.json").read_text())
    expected = json.loads((folder / "expected_per_image.json").read_text())
    found = score([captions[name][0] for name in references], list(references.values()))
    assert found == pytest.approx([expected[name]["cider"] for name in references], abs=1e-6)


def test_the_best_caption_is_the_only_reference_and_scores_ten() -> None:
    found = score(["a b c d e", "f g h i j"], [["a b c d e"], ["f g h i j"]])
    assert found == pytest.approx([10.0, 10.0])


def test_captions_without_words_or_shorter_than_an_ngram_have_a_score() -> None:
    found = score(["", "a"], [["a b"], ["a"]])
    assert found[0] == 0.0
    assert all(math.isfinite(value) for value in found)


def test_a_word_that_is_said_again_counts_no_more_than_in_the_reference() -> None:
    references = [["a cat sits here"], ["b"], ["c"]]
    once, again = (
        score([caption, "b", "c"], references)[0] for caption in ("cat x x x", "cat cat cat cat")
    )
    assert again < once


def test_keys_are_equal_where_ngrams_are() -> None:
    words, lengths = pad_rows([[1, 2, 1, 2], [2, 1], []])
    keys = ngram_keys(words, lengths, 2, base=3)
    assert keys[0].tolist() == [5, 7, 5, -1]
    assert keys[1].tolist() == [7, -1, -1, -1]
    assert keys[2].tolist() == [-1] * 4


def test_too_many_words_for_a_key_are_refused() -> None:
    largest = torch.tensor([[MOST_WORDS - 1] * 4])
    assert ngram_keys(largest, torch.tensor([4]), 4, base=MOST_WORDS)[0, 0] == MOST_WORDS**4 - 1
    with pytest.raises(InvalidValueError, match=r"at most 55,107 different words, but are 55,108"):
        Frequencies.count([[[1]]], base=MOST_WORDS + 1)
    with pytest.raises(InvalidValueError, match="there are no references"):
        Frequencies.count([], base=3)
