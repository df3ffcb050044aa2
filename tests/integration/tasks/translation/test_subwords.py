"""Sentences to tokens and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embshare.tasks.text.errors import TokenizerError, VocabularySizeError
from embshare.tasks.translation.subwords import Subwords
from tests._support.translation_data import PAIRS

SOURCE, TARGET = ([pair[place] for pair in PAIRS] for place in (0, 1))
END = 2
HARD = ["fünf und 1.234,5 €", "</s> is text", "日本語 🎈", "a\u00a0b", ""]


@pytest.mark.parametrize("joint", [True, False])
def test_every_sentence_can_be_had_back(joint: bool, tmp_path: Path) -> None:
    subwords = Subwords.learn(SOURCE, TARGET, size=320, joint=joint)
    rows = list(subwords.encode_target([*TARGET, *HARD]))
    assert all(row[-1] == END and END not in row[:-1] for row in rows)
    assert [subwords.decode(row) for row in rows] == [*TARGET, *HARD]
    subwords.save(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file() == joint
    assert (tmp_path / "target" / "tokenizer.json").is_file() != joint
    again = Subwords.load(tmp_path, joint=joint)
    assert again.joint == joint
    assert again.sizes == subwords.sizes
    assert list(again.encode_source(SOURCE)) == list(subwords.encode_source(SOURCE))
    assert list(again.encode_target(HARD)) == list(subwords.encode_target(HARD))


def test_each_language_can_have_its_own() -> None:
    subwords = Subwords.learn(SOURCE, TARGET, size=320, joint=False)
    (english,), (german,) = subwords.encode_source(["three"]), subwords.encode_target(["drei"])
    assert len(english) == len(german) == 2  # a word and the end
    assert len(next(subwords.encode_target(["three"]))) > 2
    both = Subwords.learn(SOURCE, TARGET, size=320, joint=True)
    assert len(next(both.encode_source(["three"]))) == len(next(both.encode_source(["drei"]))) == 2


def test_digits_stand_for_themselves() -> None:
    subwords = Subwords.learn(["in 1999"] * 50, ["anno 1999"] * 50, size=300, joint=True)
    (row,) = subwords.encode_source(["1999"])
    assert len(row) == 6  # the space, four digits, the end


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularySizeError, match=r"must be at least 259, for .*, but is 258"):
        Subwords.learn(SOURCE, TARGET, size=258, joint=True)
    (tmp_path / "subwords.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"subwords\.json` must be a tokenizer .* be read"):
        Subwords.load(tmp_path, joint=True)
    with pytest.raises(TokenizerError, match=r"subwords\.source\.json"):
        Subwords.load(tmp_path, joint=False)


def test_a_tokenizer_whose_padding_is_its_end_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    made = Subwords.learn(SOURCE, TARGET, size=300, joint=True).source.fast.backend_tokenizer
    for pad in ("<pad>", "</s>"):
        fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token=pad)
        fast.save_pretrained(str(tmp_path / pad.strip("</>")))
    assert Subwords.pretrained(str(tmp_path / "pad")).pad != END
    with pytest.raises(TokenizerError) as caught:
        Subwords.pretrained(str(tmp_path / "s"))
    assert (caught.value.name, caught.value.needs) == (
        str(tmp_path / "s"),
        "a pad_token that differs from its eos_token",
    )
    assert "both are '</s>': a model never writes padding" in str(caught.value)


@pytest.mark.parametrize("joint", [True, False])
def test_files_of_earlier_versions_are_read(joint: bool, tmp_path: Path) -> None:
    """They held no space before the first word: the task put it there."""
    subwords = Subwords.learn(SOURCE, TARGET, size=320, joint=joint)
    names = ["subwords.json"] if joint else ["subwords.source.json", "subwords.target.json"]
    for name, tokenizer in zip(names, (subwords.source, subwords.target), strict=False):
        content = json.loads(tokenizer.fast.backend_tokenizer.to_str()) | {"normalizer": None}
        (tmp_path / name).write_text(json.dumps(content))
    again = Subwords.load(tmp_path, joint=joint)
    assert list(again.encode_source([*SOURCE, *HARD])) == list(
        subwords.encode_source([*SOURCE, *HARD])
    )
    assert list(again.encode_target(TARGET)) == list(subwords.encode_target(TARGET))
    assert [again.decode(row) for row in again.encode_target(HARD)] == HARD
    assert (again.pad, again.end, again.joint) == (0, END, joint)
