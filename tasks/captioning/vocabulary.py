"""The words that captions are written with: those of the training side that are frequent enough."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, final

from embshare.tasks.captioning.errors import VocabularyFileError
from embshare.tasks.captioning.tokens import tokenize

__all__ = ["SPECIALS", "Vocabulary"]

SPECIALS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(SPECIALS))
FILE: Final = "words.json"


@final
@dataclass(frozen=True)
class Vocabulary:
    """Words in order, the special symbols first."""

    words: tuple[str, ...]

    @classmethod
    def learn(
        cls, captions: Iterable[str], *, least: int = 1, size: int | None = None
    ) -> Vocabulary:
        """The words that stand in captions ``least`` times or more, the most frequent first.

        Args:
            captions: of the training side.
            least: times that a word stands there.
            size: symbols at most, the special ones counted; ``None`` is all.
        """
        counts = Counter(word for caption in captions for word in tokenize(caption))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        words = [word for word in ordered if counts[word] >= least]
        kept = words if size is None else words[: max(0, size - len(SPECIALS))]
        return cls((*SPECIALS, *kept))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word -> number."""
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, caption: str) -> list[int]:
        """The words of a caption as numbers, without any special symbol but ``<unk>``."""
        return [self.ids.get(word, UNK) for word in tokenize(caption)]

    def decode(self, symbols: Sequence[int]) -> str:
        """Words with a space between them."""
        return " ".join(self.words[symbol] for symbol in symbols)

    def save(self, folder: Path) -> None:
        """As JSON, a list of the words in order."""
        text = json.dumps(self.words, ensure_ascii=False, indent=0)
        (folder / FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read back what `save` wrote.

        Raises:
            VocabularyFileError: the file is missing or no such list.
        """
        path = folder / FILE
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise VocabularyFileError(path=path, finding=str(error)) from error
        whole = isinstance(words, list) and all(isinstance(word, str) for word in words)
        if not whole or tuple(words[: len(SPECIALS)]) != SPECIALS:
            finding = f"it is no list of words that begins with {', '.join(SPECIALS)}"
            raise VocabularyFileError(path=path, finding=finding)
        return cls(tuple(words))
