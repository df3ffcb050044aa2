"""A small text, and a tokenizer of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.task import learn_tokenizer
from embshare.tasks.text.tokenizer import TextTokenizer

WORDS = "the quick brown foxes jumped over lazy dogs and walked by running rivers".split()


def write_text(folder: Path, lines: int = 240) -> Path:
    """A folder in the WikiText layout, with a sentence of eight words in each line."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, count in (("train", lines), ("valid", lines // 4)):
        text = [" = A title = \n"]
        for number in range(count):
            words = [WORDS[(number * 5 + i) % len(WORDS)] for i in range(8)]
            text.append(" ".join(words) + "\n")
            if number % 50 == 49:
                text.append(" = Another title = \n")
        (folder / f"{side}.txt").write_text("".join(text))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = write_text(tmp_path_factory.mktemp("vocabulary") / "text")
    text = (folder / "train.txt").read_text().splitlines()
    return learn_tokenizer(PretrainingConfig(vocabulary_size=160), text)
