"""Sentences to symbols and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from embshare.tasks.translation.errors import (
    SubwordFileError,
    SubwordSizeError,
    SubwordSymbolsError,
)
from embshare.tasks.translation.subwords import END, LearnedSubwords, TrainedSubwords
from tests.tasks.translation.data import PAIRS

SOURCE, TARGET = ([pair[place] for pair in PAIRS] for place in (0, 1))
HARD = ["fünf und 1.234,5 €", "</s> is text", "日本語 🎈", "a\u00a0b", ""]


@pytest.mark.parametrize("joint", [True, False])
def test_every_sentence_can_be_had_back(joint: bool, tmp_path: Path) -> None:
    subwords = LearnedSubwords.learn(SOURCE, TARGET, size=320, joint=joint)
    rows = list(subwords.encode_target([*TARGET, *HARD]))
    assert all(row[-1] == END and END not in row[:-1] for row in rows)
    assert [subwords.decode(row) for row in rows] == [*TARGET, *HARD]
    subwords.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == (1 if joint else 2)
    again = LearnedSubwords.load(tmp_path, joint=joint)
    assert again.joint == joint
    assert again.sizes == subwords.sizes
    assert list(again.encode_source(SOURCE)) == list(subwords.encode_source(SOURCE))
    assert list(again.encode_target(HARD)) == list(subwords.encode_target(HARD))


def test_each_language_can_have_its_own() -> None:
    subwords = LearnedSubwords.learn(SOURCE, TARGET, size=320, joint=False)
    (english,), (german,) = subwords.encode_source(["three"]), subwords.encode_target(["drei"])
    assert len(english) == len(german) == 2  # a word and the end
    assert len(next(subwords.encode_target(["three"]))) > 2
    both = LearnedSubwords.learn(SOURCE, TARGET, size=320, joint=True)
    assert len(next(both.encode_source(["three"]))) == len(next(both.encode_source(["drei"]))) == 2


def test_digits_stand_for_themselves() -> None:
    subwords = LearnedSubwords.learn(["in 1999"] * 50, ["anno 1999"] * 50, size=300, joint=True)
    (row,) = subwords.encode_source(["1999"])
    assert len(row) == 6  # the space, four digits, the end


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubwordSizeError, match=r"`vocabulary_size` must be at least 259,.* is 258"):
        LearnedSubwords.learn(SOURCE, TARGET, size=258, joint=True)
    (tmp_path / "subwords.json").write_text("{}")
    with pytest.raises(SubwordFileError, match=r"subwords\.json` must be subwords as they"):
        LearnedSubwords.load(tmp_path, joint=True)
    with pytest.raises(SubwordFileError, match=r"subwords\.source\.json"):
        LearnedSubwords.load(tmp_path, joint=False)


def test_a_tokenizer_whose_padding_is_its_end_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    made = LearnedSubwords.learn(SOURCE, TARGET, size=300, joint=True).source
    for pad in ("<pad>", "</s>"):
        fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token=pad)
        fast.save_pretrained(str(tmp_path / pad.strip("</>")))
    assert TrainedSubwords.of(str(tmp_path / "pad")).pad != END
    with pytest.raises(SubwordSymbolsError) as caught:
        TrainedSubwords.of(str(tmp_path / "s"))
    assert str(caught.value) == (
        f"`{tmp_path / 's'}` must be a tokenizer whose `pad_token` and `eos_token` differ, but "
        "both are '</s>': a model never writes padding, and could not end a sentence. Give it "
        "another `pad_token` and save it, or name another tokenizer."
    )
