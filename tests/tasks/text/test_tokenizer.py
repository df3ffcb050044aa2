"""Learned tokenizers: what a row looks like, and that it comes back from its folder."""

from pathlib import Path

import pytest

from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.text.tokenizer import SMALLEST, TextTokenizer

TEXTS = ["The quick brown fox jumps over the lazy dog", "A dog sleeps", "Wörter mit Umlauten"] * 4


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.learn(TEXTS, 320)


def test_one_sentence_and_two(tokenizer: TextTokenizer) -> None:
    cls, sep = tokenizer.fast.cls_token_id, tokenizer.fast.sep_token_id
    (one,) = tokenizer.encode([("a dog",)], length=20, kinds=False)
    assert set(one) == {"input_ids"}
    assert one["input_ids"][0] == cls == tokenizer.start
    assert one["input_ids"][-1] == sep
    (two,) = tokenizer.encode([("a dog", "the fox")], length=20, kinds=True)
    ids, kinds = two["input_ids"], two["token_type_ids"]
    assert ids.count(sep) == 2
    assert ids[: kinds.index(1)] == one["input_ids"]
    assert sorted(kinds) == kinds
    assert len(kinds) == len(ids)


def test_capitals_do_not_matter_and_nothing_is_unknown(tokenizer: TextTokenizer) -> None:
    rows = tokenizer.encode([("THE FOX ☃",), ("the fox ☃",)], length=40, kinds=False)
    assert rows[0] == rows[1]
    assert tokenizer.fast.unk_token_id not in rows[0]["input_ids"]


def test_a_text_that_spells_a_special_symbol_is_text(tokenizer: TextTokenizer) -> None:
    (row,) = tokenizer.encode([("a [SEP] b",)], length=40, kinds=False)
    assert row["input_ids"].count(tokenizer.fast.sep_token_id) == 1


def test_the_longer_sentence_is_cut_first(tokenizer: TextTokenizer) -> None:
    (whole,) = tokenizer.encode([("a dog", "fox " * 30)], length=200, kinds=True)
    (cut,) = tokenizer.encode([("a dog", "fox " * 30)], length=16, kinds=True)
    assert len(cut["input_ids"]) == 16
    assert cut["token_type_ids"].index(1) == whole["token_type_ids"].index(1)


def test_it_is_the_same_after_saving(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = TextTokenizer.of(str(tmp_path))
    rows = [("a dog [CLS]", "The fox")]
    assert again.encode(rows, length=30, kinds=True) == tokenizer.encode(
        rows, length=30, kinds=True
    )
    assert (len(again), again.pad, again.knows_kinds) == (len(tokenizer), tokenizer.pad, True)


def test_a_vocabulary_has_all_bytes_at_least() -> None:
    assert len(TextTokenizer.learn(TEXTS, 1)) == SMALLEST


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=rf"^`{tmp_path}` must be a tokenizer .*there is none"):
        TextTokenizer.of(str(tmp_path))


def test_a_tokenizer_without_padding_is_refused(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.fast.backend_tokenizer)
    bare.save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="padding, but it has no such symbol"):
        TextTokenizer.of(str(tmp_path))
