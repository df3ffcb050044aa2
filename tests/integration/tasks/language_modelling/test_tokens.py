"""Words and subwords: what they count, and what earlier versions saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.processor import learn_processor, load_processor
from embshare.tasks.text.corpus import folder_corpus
from embshare.tasks.text.errors import TokenizerError, VocabularySizeError
from embshare.tasks.text.tokenizer import TextTokenizer

TEXT = "the cat sat\n\n the dog sat <unk>\nthe end\n"
WORD = LanguageModellingConfig(level="word", vocabulary_size=None)


def subwords(text: str, size: int = 300) -> TextTokenizer:
    return learn_processor(LanguageModellingConfig(vocabulary_size=size), text).tokenizer


def words(text: str, size: int | None = None) -> TextTokenizer:
    config = LanguageModellingConfig(level="word", vocabulary_size=size)
    return learn_processor(config, text).tokenizer


def in_order(tokenizer: TextTokenizer) -> list[str]:
    vocabulary = tokenizer.fast.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


SUBWORDS = subwords(TEXT * 20)


def test_words_come_by_frequency_after_the_special_ones() -> None:
    assert in_order(words(TEXT)) == ["<eos>", "<unk>", "the", "sat", "cat", "dog", "end"]
    assert in_order(words(TEXT, 4)) == ["<eos>", "<unk>", "the", "sat"]


def test_every_line_ends_also_one_without_words() -> None:
    tokenizer = words(TEXT)
    assert tokenizer.word_level and not SUBWORDS.word_level
    assert tokenizer.encode_text("the cat\n\nunheard <unk>\n").tolist() == [2, 4, 0, 0, 1, 1, 0]
    assert tokenizer.encode_text("the end").tolist() == tokenizer.encode_text("the end\n").tolist()
    assert tokenizer.encode_prompt("the cat\nthe").tolist() == [2, 4, 0, 2]
    assert tokenizer.decode([2, 4, 0, 0, 2, 1]) == "the cat\n\nthe <unk>"


@pytest.mark.data
def test_wikitext_2_has_its_published_counts(data: Path) -> None:
    corpus = folder_corpus(data / "wikitext2")
    tokenizer = words(corpus.train)
    assert len(tokenizer) == 33_278
    texts = (corpus.train, corpus.valid, corpus.test)
    counts = [len(tokenizer.encode_text(text)) for text in texts]
    assert counts == [2_088_628, 217_646, 245_569]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_every_text_can_be_had_back_from_its_subwords(text: str) -> None:
    assert SUBWORDS.decode(SUBWORDS.encode_text(text).tolist()) == text


def test_a_long_text_is_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"line {number} of the cat\n" for number in range(64 * 7 + 5))
    whole, given = SUBWORDS.encode_text(text), list[int]()
    assert SUBWORDS.decode(whole.tolist()) == text
    ids = TextTokenizer.ids

    def counted(tokenizer: TextTokenizer, texts: list[str]) -> list[list[int]]:
        given.append(len(texts))
        return ids(tokenizer, texts)

    monkeypatch.setattr("embshare.tasks.text.tokenizer.BLOCK", 3)
    monkeypatch.setattr(TextTokenizer, "ids", counted)
    assert torch.equal(SUBWORDS.encode_text(text), whole)
    assert given == [3, 3, 2]


def test_who_knows_all_has_no_token_for_what_is_unknown() -> None:
    tokenizer = words(TEXT)
    assert tokenizer.unknown == tokenizer.encode_prompt("zebra").item() == 1
    assert SUBWORDS.unknown is None


def test_a_text_that_spells_a_special_token_is_ordinary_text() -> None:
    ids = SUBWORDS.encode_text("a <eos> b").tolist()
    assert SUBWORDS.text_start not in ids
    assert SUBWORDS.decode(ids) == "a <eos> b"


def test_subwords_are_small_integers_and_as_many_as_asked_for() -> None:
    assert SUBWORDS.encode_text(TEXT).dtype == torch.int32
    assert len(SUBWORDS) <= 300
    assert int(SUBWORDS.encode_text(TEXT).max()) < len(SUBWORDS)


def test_a_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(VocabularySizeError) as small:
        words(TEXT, 2)
    assert str(small.value) == (
        "`vocabulary_size` must be at least 3, for <eos>, <unk> and a word, but is 2. Raise it."
    )
    with pytest.raises(VocabularySizeError, match=r"at least 257, for 256 bytes and <eos>, but is"):
        subwords(TEXT, 256)


@pytest.mark.parametrize("tokenizer", [words(TEXT), SUBWORDS], ids=["words", "subwords"])
def test_a_saved_tokenizer_is_the_same_as_before(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    level: Any = "word" if tokenizer.word_level else "subword"
    config = LanguageModellingConfig(level=level, vocabulary_size=None)
    again = load_processor(config, tmp_path).tokenizer
    assert again.word_level == tokenizer.word_level
    assert again.fast.get_vocab() == tokenizer.fast.get_vocab()
    text = "the cat <eos> <unk>\n\nzebra"
    assert again.encode_text(text).tolist() == tokenizer.encode_text(text).tolist()
    assert again.text_start == tokenizer.text_start and again.unknown == tokenizer.unknown


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = tmp_path / "words"
    old.mkdir()
    (old / "words.json").write_text(json.dumps(in_order(words(TEXT)), indent=0))
    tokenizer = load_processor(WORD, old).tokenizer
    assert tokenizer.encode_text("the cat\n\nzebra <unk>\n").tolist() == [2, 4, 0, 0, 1, 1, 0]
    SUBWORDS.fast.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = LanguageModellingConfig(vocabulary_size=300)
    again = load_processor(config, tmp_path).tokenizer
    assert again.encode_text("a <eos> cat").tolist() == SUBWORDS.encode_text("a <eos> cat").tolist()
    assert again.text_start == SUBWORDS.text_start


@pytest.mark.parametrize("content", ["[]", '["<eos>", 3]', "{}", "no"])
def test_a_word_list_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"words\.json` must be a tokenizer .*cannot be read"):
        load_processor(WORD, tmp_path)
