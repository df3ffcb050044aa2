"""Learned tokenizers: what a row looks like, and that it comes back from its folder."""

from functools import partial
from pathlib import Path

import pytest

from embshare.tasks.text.errors import TokenizerError, VocabularySizeError
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


def test_a_text_that_spells_a_special_token_is_text(tokenizer: TextTokenizer) -> None:
    (row,) = tokenizer.encode([("a [SEP] b",)], length=40, kinds=False)
    assert row["input_ids"].count(tokenizer.fast.sep_token_id) == 1


def test_the_longer_sentence_is_cut_first(tokenizer: TextTokenizer) -> None:
    (whole,) = tokenizer.encode([("a dog", "fox " * 30)], length=200, kinds=True)
    (cut,) = tokenizer.encode([("a dog", "fox " * 30)], length=16, kinds=True)
    assert len(cut["input_ids"]) == 16
    assert cut["token_type_ids"].index(1) == whole["token_type_ids"].index(1)


def test_it_is_the_same_after_saving(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = TextTokenizer.load(str(tmp_path))
    rows = [("a dog [CLS]", "The fox")]
    assert again.encode(rows, length=30, kinds=True) == tokenizer.encode(
        rows, length=30, kinds=True
    )
    assert (len(again), again.pad, again.knows_kinds) == (len(tokenizer), tokenizer.pad, True)


def test_a_vocabulary_has_all_bytes_at_least() -> None:
    assert len(TextTokenizer.learn(TEXTS, SMALLEST)) == SMALLEST
    with pytest.raises(VocabularySizeError) as caught:
        TextTokenizer.learn(TEXTS, SMALLEST - 1)
    assert caught.value.has == SMALLEST - 1 and "256 bytes and [PAD]," in caught.value.needs


def test_rare_words_are_left_out() -> None:
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    learn = partial(TextTokenizer.learn, ["a b a c", "c a d"], None, kind="words", special=special)
    assert len(learn()) == 3 + 4
    few = learn(min_count=2)
    assert few.ids(["a c b <pad>"]) == [[3, 4, 2, 0]]
    assert few.decode([3, 4, 2]) == "a c <unk>"


def test_settings_of_an_earlier_call_are_no_part_of_the_next(tokenizer: TextTokenizer) -> None:
    wanted = tokenizer.ids(["a dog sleeps over the dog"])
    tokenizer.encode([("a dog sleeps",)], length=3, kinds=False)
    assert tokenizer.ids(["a dog sleeps over the dog"]) == wanted
    assert tokenizer.locate("a dog sleeps over the dog")[0] == wanted[0]
    assert tokenizer.locate("[MASK]")[0] == [tokenizer.special_ids["mask_token_id"]]


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json` must be a tokenizer .*be read"):
        TextTokenizer.from_file(tmp_path / "tokenizer.json", {"eos_token": "</s>"})
    with pytest.raises(TokenizerError, match="be read"):
        TextTokenizer.from_file(tmp_path / "none.json", {"eos_token": "</s>"})


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=rf"^`{tmp_path}` must be .*cannot be loaded"):
        TextTokenizer.load(str(tmp_path))


def test_a_tokenizer_without_padding_is_refused(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.fast.backend_tokenizer)
    bare.save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="with pad_token, but has no pad_token"):
        TextTokenizer.load(str(tmp_path))
