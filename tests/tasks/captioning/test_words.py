"""Words of captions, as the published scores split them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embshare.tasks.captioning.words import is_plain, tokenize


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
