"""Words of captions, as the published scores split them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embshare.tasks.captioning.words import Vocabulary, is_plain, tokenize
from embshare.tasks.errors import DataError


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        # What Stanford's PTBTokenizer gives for them, less the punctuation that is dropped.
        ("A man's dog (black) isn't here", "a man 's dog -lrb- black -rrb- is n't here"),
        ('"here" - cannot, 3,000 e-mails; café.', "here can not 3,000 e-mails café"),
        ("Hello U.S. guys...", "hello u.s. guys"),
        ("M &amp; M, and t-shirts", "m & m and t-shirts"),
        ("at 5:54pm on Mt. Everest", "at 5:54 pm on mt. everest"),
        ("...", ""),
    ],
)
def test_words_are_those_of_the_published_tokenizer(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@pytest.mark.data
def test_raw_references_become_the_published_words(data: Path) -> None:
    pairs = json.loads((data / "coco_caption_eval" / "ptb_tokenizer_pairs.json").read_text())
    raw, expected = pairs["raw"], pairs["tok"]
    wrong = [
        (line, words)
        for name in raw
        for line, words in zip(raw[name], expected[name], strict=True)
        if tokenize(line) != words.split()
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("caption", "plain"),
    [
        ("a big red ring", True),
        ("a big red ring .", False),
        ("A ring", False),
        ("it cannot be", False),
        ("a  ring", False),
        ("", False),
    ],
)
def test_plain_captions_are_words_already(caption: str, plain: bool) -> None:
    assert is_plain(caption) == plain
    if plain:
        assert tokenize(caption) == caption.split()


def test_a_vocabulary_has_the_special_tokens_and_then_words_by_frequency(tmp_path: Path) -> None:
    captions = ["A red ring (big)", "a ring", "the red ring"]
    made = Vocabulary.learn(captions)
    assert made.encode("the RING, a zebra") == [10, 4, 5, 3]
    assert made.decode([10, 4, 3]) == "the ring <unk>"
    assert len(Vocabulary.learn(captions, least=2)) == 4 + 3
    assert len(Vocabulary.learn(captions, size=6)) == 6
    made.save(tmp_path)
    again = Vocabulary.load(tmp_path)
    assert len(again) == len(made)
    assert again.encode("the ring, a zebra (big)") == made.encode("the ring, a zebra (big)")


def test_word_lists_of_earlier_versions_are_read(tmp_path: Path) -> None:
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    (tmp_path / "words.json").write_text(json.dumps([*special, "ring", "a"]))
    assert Vocabulary.load(tmp_path).encode("a ring, a zebra") == [5, 4, 5, 3]
    (tmp_path / "words.json").write_text(json.dumps(["ring", *special]))
    with pytest.raises(DataError, match="begins with <pad>, <bos>, <eos>, <unk>, but"):
        Vocabulary.load(tmp_path)
