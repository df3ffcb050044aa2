"""Tokenizers of encoders: learned, saved, read by transformers; and their tokens' properties."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.processor import NEEDED
from embshare.tasks.pretraining.task import learn_tokenizer
from embshare.tasks.pretraining.token_properties import TokenProperties
from embshare.tasks.text.errors import TokenizerError, VocabularySizeError
from embshare.tasks.text.tokenizer import BERT, TextTokenizer

TEXT = ["Étude in blue: the quick brown fox, the quicker browner foxes.\n"] * 20


def learn(size: int = 120, texts: list[str] = TEXT, **changes: Any) -> TextTokenizer:
    fields: dict[str, Any] = {"vocabulary_size": size, **changes}
    return learn_tokenizer(PretrainingConfig(**fields), texts)


def load(folder: Path) -> TextTokenizer:
    return TextTokenizer.load(str(folder), needs=NEEDED)


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_transformers_reads_what_is_saved(tmp_path: Path, way: str) -> None:
    made = learn(300, tokenization=way)
    made.save(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    text = "the foxes"
    (body,) = made.ids([text])
    assert read(text)["input_ids"] == [2, *body, 3]
    pair = read("the", "foxes")
    assert pair["input_ids"].count(3) == 2
    assert read.mask_token_id == 4 and read.pad_token_id == 0
    assert [read.convert_ids_to_tokens(i) for i in range(5)] == list(BERT.values())
    again = load(tmp_path)
    assert again.special_ids == made.special_ids
    assert again.fingerprint == made.fingerprint
    assert again.decode(body).strip() == text


def test_a_vocabulary_is_the_same_each_time() -> None:
    assert len({learn().fingerprint for _ in range(4)}) == 1


def test_letters_are_lowered_if_asked() -> None:
    lower, cased = learn(), learn(lowercase=False)
    assert lower.ids(["ETUDE"]) == lower.ids(["étude"])
    assert cased.ids(["The"]) != cased.ids(["the"])


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_words_begin_where_they_do(way: str) -> None:
    made = learn(280, tokenization=way)
    found = TokenProperties(made)
    assert found.begins is not None
    (ids,) = made.ids(["the quicker brown fox"])
    assert found.begins[np.array(ids)].sum() == 4
    assert not found.special[np.array(ids)].any()
    assert found.special.sum() == 5
    assert len(found.ordinary) == len(made) - 5


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_a_word_does_not_go_on_after_the_end_of_a_line(way: str) -> None:
    lines = ["the quick fox\nfoxes\n\nbrown\tfox\n"] * 40
    made = learn(320, lines, tokenization=way)
    (ids,) = made.ids(lines[:1])
    begins = TokenProperties(made).words_begin(np.array([ids]))[0]
    starts = [*np.flatnonzero(begins).tolist(), len(ids)]
    words = [made.decode(ids[a:b]) for a, b in pairwise(starts)]
    assert [word.strip() for word in words if word.strip()] == (
        "the quick fox foxes brown fox".split()
    )


def test_a_text_that_spells_a_special_token_has_none() -> None:
    made = learn()
    (plain,) = made.ids(["[SEP] a"], reads_special=False)
    special, _ = made.locate("[MASK] fox")
    assert made.special_ids["sep_token_id"] not in plain
    assert special[0] == made.special_ids["mask_token_id"]


def test_tokens_of_bytes_that_look_like_ends_of_words_are_none() -> None:
    lines = ["## The quick fox\n### The foxes ##\n"] * 40
    made = learn(320, lines, tokenization="bytes")
    begins = TokenProperties(made).begins
    assert any(word.startswith("##") for word in made.fast.get_vocab())
    assert begins is not None
    (ids,) = made.ids(["the quick fox"])
    assert begins[np.array(ids)].sum() == 3
    assert not begins[made.fast.convert_tokens_to_ids("f")]


@pytest.mark.parametrize("way", ["wordpiece", "bytes"])
def test_each_token_is_told_where_it_stands(tmp_path: Path, way: str) -> None:
    learn(300, tokenization=way).save(tmp_path)
    made, text = load(tmp_path), "the [MASK] Foxes"
    ids, places = made.locate(text)
    (mask,) = (place for token, place in zip(ids, places, strict=True) if token == 4)
    assert text[slice(*mask)].strip() == "[MASK]"
    (the,) = made.ids(["the"])
    assert ids[: len(the) + 1] == [*the, 4]  # no token for the blank between them


def test_tokens_are_spelled_as_they_stand_in_a_text() -> None:
    pieces, pairs = learn(), learn(300, tokenization="bytes")
    for made, text in ((pieces, "foxes"), (pairs, " foxes")):
        (ids,), found = made.ids([text]), TokenProperties(made)
        assert "".join(found.spellings[token] for token in ids) == text
        assert found.fitting[np.array(ids)].all()
        assert not found.fitting[found.special].any()
    unfit = {found.spellings[n] for n in np.flatnonzero(~found.fitting)} - set(BERT.values())
    assert {"\n", "\r", "\ufffd"} <= unfit
    assert all("\ufffd" in text or text.splitlines() != [text] for text in unfit)


def test_a_tokenizer_cuts_and_fills_no_text(tmp_path: Path) -> None:
    made = learn()
    texts = ["the quick brown foxes", "the fox"]
    wanted = made.ids(texts)
    made.fast.backend_tokenizer.enable_truncation(3)
    made.fast.backend_tokenizer.enable_padding(length=9)
    made.save(tmp_path)
    assert load(tmp_path).ids(texts) == wanted


def test_a_size_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(VocabularySizeError, match=r"at least 261.*is 200"):
        learn(200, tokenization="bytes")
    with pytest.raises(VocabularySizeError, match="special tokens and a character"):
        learn(3)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    backend = learn().fast.backend_tokenizer
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    message = "with pad_token, .*mask_token, but has no cls_token, sep_token, mask_token"
    with pytest.raises(TokenizerError, match=message):
        load(tmp_path)


def test_no_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        load(tmp_path / "nothing")
