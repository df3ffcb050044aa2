"""Texts whose masks are filled, and which stay as they are but for those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.processor import PretrainingProcessor, write_words
from embshare.tasks.pretraining.task import learn_tokenizer
from embshare.tasks.text.tokenizer import TextTokenizer

TEXT = ["The quick brown fox, jumping over ## lazy dogs.\n"] * 40


class Likely(nn.Module):
    """Gives some tokens a higher score, whatever it reads, and remembers what it reads."""

    def __init__(self, tokenizer: TextTokenizer, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(len(tokenizer) + 3))  # tables may be larger
        self.read: list[list[int]] = []
        with torch.no_grad():
            self.weights[-1] = 99.0
            for word, weight in weights.items():
                self.weights[tokenizer.fast.convert_tokens_to_ids(word)] = weight

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.read += input_ids.tolist()
        return {"logits": self.weights.expand(*input_ids.shape, -1)}


def processor(way: Any, length: int = 64) -> PretrainingProcessor:
    config = PretrainingConfig(vocabulary_size=320, tokenization=way, length=length)
    return PretrainingProcessor(config, learn_tokenizer(config, TEXT))


def fill(way: str, weights: Mapping[str, float], text: str) -> str:
    made = processor(way)
    (line,) = made.predict(Likely(made.tokenizer, weights), [text])
    return line


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
@pytest.mark.parametrize(
    "text", ["", "The  QUICK fox ,jumped\u3000!", "  \u4e00 caf\u00e9 it's 12.5 ", "[CLS] a [SEP]"]
)
def test_a_line_without_a_mask_stays_as_it_is(way: str, text: str) -> None:
    assert fill(way, {}, text) == text


@pytest.mark.parametrize(
    ("way", "word", "text", "wanted"),
    [
        ("wordpiece", "fox", "The  QUICK [MASK], caf\u00e9", "The  QUICK fox, caf\u00e9"),
        ("wordpiece", "fox", "([MASK])", "(fox)"),
        ("wordpiece", "fox", "[MASK][MASK]", "foxfox"),
        ("wordpiece", "##ing", "Jump[MASK] on", "Jumping on"),
        ("bytes", "\u0120fox", "The  QUICK  [MASK], caf\u00e9", "The  QUICK  fox, caf\u00e9"),
        ("bytes", "\u0120fox", "[MASK] and([MASK][MASK]", "fox and( fox fox"),
        ("bytes", "ing", "Jump[MASK] on", "Jumping on"),
        ("bytes", "ing", "Jump [MASK] on", "Jump ing on"),
    ],
)
def test_a_token_is_written_where_the_mask_stood(
    way: str, word: str, text: str, wanted: str
) -> None:
    assert fill(way, {word: 1.0}, text) == wanted


def test_no_line_end_and_no_special_token_is_filled_in() -> None:
    likely = {"\u010a": 9.0, "[SEP]": 8.0, "[MASK]": 8.0, "\u010d": 7.0, "\u00c3": 6.0, "ing": 1.0}
    assert fill("bytes", likely, "jump[MASK]") == "jumping"


def test_the_blank_before_a_mask_is_no_token() -> None:
    made = processor("bytes")
    model = Likely(made.tokenizer, {})
    list(made.predict(model, ["The [MASK] dogs."]))
    (wanted,) = made.tokenizer.ids(["The dogs."])
    (the,) = made.tokenizer.ids(["The"])
    assert model.read == [[2, *the, 4, *wanted[len(the) :], 3]]


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_a_line_of_more_than_a_row_is_read_in_parts(way: str) -> None:
    made = processor(way, length=12)
    word = "fox" if way == "wordpiece" else "\u0120fox"
    model = Likely(made.tokenizer, {word: 1.0})
    text = "The lazy dogs. " * 9 + "A [MASK], " + "The lazy dogs. " * 9 + "[MASK]"
    assert list(made.predict(model, [text, "dogs"])) == [text.replace("[MASK]", "fox"), "dogs"]
    assert len(model.read) == 2  # parts without a mask are not read
    assert all(len(row) <= 12 and row[0] == 2 and row[-1] == 3 for row in model.read)


def test_words_are_written_between_the_rest() -> None:
    assert write_words("a b c", [], []) == "a b c"
    assert write_words("a _ c", [(1, 3)], [" b"]) == "a b c"
    assert write_words("a _ c _", [(2, 4), (6, 7)], ["b", " d"]) == "a b c d"
    assert write_words("__", [(0, 1), (1, 2)], [" a", " b"]) == "a b"
