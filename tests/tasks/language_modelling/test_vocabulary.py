"""Words and subwords: what they count, and that nothing of the other splits is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embshare.tasks.language_modelling.data import folder_corpus
from embshare.tasks.language_modelling.errors import VocabularySizeError
from embshare.tasks.language_modelling.vocabulary import (
    SubwordVocabulary,
    TrainedVocabulary,
    WordVocabulary,
)

TEXT = "the cat sat\n\n the dog sat <unk>\nthe end\n"
SUBWORDS = SubwordVocabulary.learn(TEXT * 20, 300)


def test_words_come_by_frequency_after_the_special_ones() -> None:
    vocabulary = WordVocabulary.learn(TEXT)
    assert list(vocabulary.ids) == ["<eos>", "<unk>", "the", "sat", "cat", "dog", "end"]
    assert list(WordVocabulary.learn(TEXT, 4).ids) == ["<eos>", "<unk>", "the", "sat"]


def test_every_line_ends_also_one_without_words() -> None:
    vocabulary = WordVocabulary.learn(TEXT)
    assert vocabulary.encode("the cat\n\nunheard <unk>\n").tolist() == [2, 4, 0, 0, 1, 1, 0]
    assert vocabulary.encode("the end").tolist() == vocabulary.encode("the end\n").tolist()


@pytest.mark.data
def test_wikitext_2_has_its_published_counts(data: Path) -> None:
    corpus = folder_corpus(data / "wikitext2")
    vocabulary = WordVocabulary.learn(corpus.train)
    assert len(vocabulary) == 33_278
    counts = [len(vocabulary.encode(text)) for text in (corpus.train, corpus.valid, corpus.test)]
    assert counts == [2_088_628, 217_646, 245_569]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_every_text_can_be_had_back_from_its_subwords(text: str) -> None:
    assert SUBWORDS.decode(SUBWORDS.encode(text)) == text


class Counting:
    """A tokenizer that tells how much it was given at once."""

    def __init__(self, vocabulary: SubwordVocabulary) -> None:
        self._tokenizer, self.given = vocabulary.tokenizer, list[int]()

    def encode_batch_fast(self, block: list[str], **options: bool) -> Any:
        self.given.append(len(block))
        return self._tokenizer.encode_batch_fast(block, **options)

    def __call__(self, block: list[str], **options: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [part.ids for part in self.encode_batch_fast(block, **options)]}


@pytest.mark.parametrize("kind", [SubwordVocabulary, TrainedVocabulary])
def test_a_long_text_is_encoded_in_parts(
    kind: Callable[[Any], SubwordVocabulary | TrainedVocabulary], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"line {number} of the cat\n" for number in range(64 * 7 + 5))
    whole = SUBWORDS.encode(text)
    assert SUBWORDS.decode(whole) == text
    monkeypatch.setattr("embshare.tasks.language_modelling.vocabulary.BLOCK", 3)
    counting = Counting(SUBWORDS)
    assert torch.equal(kind(counting).encode(text), whole)
    assert counting.given == [3, 3, 2]


def test_who_knows_all_has_no_symbol_for_what_is_unknown() -> None:
    words = WordVocabulary.learn(TEXT)
    assert words.unknown == words.encode_part("zebra").item() == words.ids["<unk>"]
    assert SUBWORDS.unknown is None


def test_a_text_that_spells_a_special_symbol_is_ordinary_text() -> None:
    ids = SUBWORDS.encode("a <eos> b")
    assert SUBWORDS.start not in ids.tolist()
    assert SUBWORDS.decode(ids) == "a <eos> b"


def test_subwords_are_small_integers_and_as_many_as_asked_for() -> None:
    assert SUBWORDS.encode(TEXT).dtype == torch.int32
    assert len(SUBWORDS) <= 300
    assert int(SUBWORDS.encode(TEXT).max()) < len(SUBWORDS)


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(VocabularySizeError) as words:
        WordVocabulary.learn(TEXT, 2)
    assert str(words.value) == (
        "`vocabulary_size` must be at least 3, for <eos>, <unk> and a word, but is 2 instead. "
        "Raise it."
    )
    with pytest.raises(VocabularySizeError, match=r"more than 256, one for each byte"):
        SubwordVocabulary.learn(TEXT, 256)
