"""Vocabularies: learned, saved, and read by transformers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from embshare.tasks.language_modelling.errors import VocabularyFileError, VocabularySizeError
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.errors import TokenizerNotForTaskError
from embshare.tasks.pretraining.vocabulary import SPECIAL, MaskedVocabulary

TEXT = ["Étude in blue: the quick brown fox, the quicker browner foxes.\n"] * 20


def learn(size: int = 120, **changes: Any) -> MaskedVocabulary:
    fields: dict[str, Any] = {"vocabulary_size": size, **changes}
    return MaskedVocabulary.learn(lambda: TEXT, PretrainingConfig(**fields))


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_transformers_reads_what_is_saved(tmp_path: Path, way: str) -> None:
    made = learn(300, tokenization=way)
    made.save(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    text = "the foxes"
    (body,) = made.encode([text])
    assert read(text)["input_ids"] == [2, *body, 3]
    pair = read("the", "foxes")
    assert pair["input_ids"].count(3) == 2
    assert read.mask_token_id == 4 and read.pad_token_id == 0
    assert [read.convert_ids_to_tokens(i) for i in range(5)] == list(SPECIAL)
    again = MaskedVocabulary.of(str(tmp_path))
    assert again.symbols == made.symbols
    assert again.fingerprint == made.fingerprint
    assert again.decode(body).strip() == text


def test_a_vocabulary_is_the_same_each_time() -> None:
    assert len({learn().fingerprint for _ in range(4)}) == 1


def test_letters_are_lowered_if_asked() -> None:
    lower, cased = learn(), learn(lowercase=False)
    assert lower.encode(["ETUDE"]) == lower.encode(["étude"])
    assert cased.encode(["The"]) != cased.encode(["the"])


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_words_begin_where_they_do(way: str) -> None:
    made = learn(280, tokenization=way)
    assert made.begins is not None
    (ids,) = made.encode(["the quicker brown fox"])
    assert made.begins[np.array(ids)].sum() == 4
    assert not made.special[np.array(ids)].any()
    assert made.special.sum() == 5
    assert len(made.ordinary) == len(made) - 5


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_a_word_does_not_go_on_after_the_end_of_a_line(way: str) -> None:
    lines = ["the quick fox\nfoxes\n\nbrown\tfox\n"] * 40
    config = PretrainingConfig(vocabulary_size=320, tokenization=way)  # type: ignore[arg-type]
    made = MaskedVocabulary.learn(lambda: lines, config)
    (ids,) = made.encode(lines[:1])
    begins = made.words_begin(np.array([ids]))[0]
    starts = [*np.flatnonzero(begins).tolist(), len(ids)]
    words = [made.decode(ids[a:b]) for a, b in pairwise(starts)]
    assert [word.strip() for word in words if word.strip()] == (
        "the quick fox foxes brown fox".split()
    )


def test_a_text_that_spells_a_special_symbol_has_none() -> None:
    made = learn()
    (plain,), (special, _) = made.encode(["[SEP] a"]), made.locate("[MASK] fox")
    assert made.symbols["sep_token_id"] not in plain
    assert special[0] == made.symbols["mask_token_id"]


def test_symbols_of_bytes_that_look_like_ends_of_words_are_none() -> None:
    lines = ["## The quick fox\n### The foxes ##\n"] * 40
    config = PretrainingConfig(vocabulary_size=320, tokenization="bytes")
    made = MaskedVocabulary.learn(lambda: lines, config)
    assert any(word.startswith("##") for word in made.tokenizer.get_vocab())
    assert made.begins is not None
    (ids,) = made.encode(["the quick fox"])
    assert made.begins[np.array(ids)].sum() == 3
    assert not made.begins[made.tokenizer.convert_tokens_to_ids("f")]


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_each_symbol_is_told_where_it_stands(tmp_path: Path, way: str) -> None:
    learn(300, tokenization=way).save(tmp_path)
    made, text = MaskedVocabulary.of(str(tmp_path)), "the [MASK] Foxes"
    ids, places = made.locate(text)
    (mask,) = (place for symbol, place in zip(ids, places, strict=True) if symbol == 4)
    assert text[slice(*mask)].strip() == "[MASK]"
    (the,) = made.encode(["the"])
    assert ids[: len(the) + 1] == [*the, 4]  # no symbol for the blank between them


def test_symbols_are_spelled_as_they_stand_in_a_text() -> None:
    pieces, pairs = learn(), learn(300, tokenization="bytes")
    for made, text in ((pieces, "foxes"), (pairs, " foxes")):
        (ids,) = made.encode([text])
        assert "".join(made.spellings[symbol] for symbol in ids) == text
        assert made.fitting[np.array(ids)].all()
        assert not made.fitting[made.special].any()
    unfit = {pairs.spellings[n] for n in np.flatnonzero(~pairs.fitting)} - set(SPECIAL)
    assert {"\n", "\r", "\ufffd"} <= unfit
    assert all("\ufffd" in text or text.splitlines() != [text] for text in unfit)


def test_a_tokenizer_cuts_and_fills_no_text(tmp_path: Path) -> None:
    made = learn()
    texts = ["the quick brown foxes", "the fox"]
    wanted = made.encode(texts)
    made.tokenizer.backend_tokenizer.enable_truncation(3)
    made.tokenizer.backend_tokenizer.enable_padding(length=9)
    made.save(tmp_path)
    assert MaskedVocabulary.of(str(tmp_path)).encode(texts) == wanted


def test_a_size_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(VocabularySizeError, match=r"at least 261.*is 200"):
        learn(200, tokenization="bytes")
    with pytest.raises(VocabularySizeError, match="special symbols and a character"):
        learn(3)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = learn().tokenizer.backend_tokenizer
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    message = "has no cls_token, sep_token, mask_token. Name the tokenizer of an encoder"
    with pytest.raises(TokenizerNotForTaskError, match=message):
        MaskedVocabulary.of(str(tmp_path))


def test_no_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(VocabularyFileError, match="must be a vocabulary"):
        MaskedVocabulary.of(str(tmp_path / "nothing"))
