"""Captions as words, lower case and without punctuation, and the vocabulary of those words.

`tokenize` follows the Penn Treebank rules as pycocoevalcap applies them with Stanford's tokenizer,
which is a Java program. It is what vocabularies are learned from, on any machine. Scores under the
published names use the Java program; see `embshare.tasks.captioning.metrics`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import Final, final

from embshare.tasks.errors import DataError

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "PUNCTUATION",
    "SPECIALS",
    "UNK",
    "Vocabulary",
    "is_plain",
    "not_as_saved",
    "tokenize",
]

PUNCTUATION: Final = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())
"""What pycocoevalcap drops. It names brackets in upper case, after they were written in lower case,
so that they stay; so they do here."""

BRACKETS: Final = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-"} | {
    "}": "-rcb-"
}
HALVED: Final = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
}
ABBREVIATED: Final = (
    r"(?:mr|mrs|ms|dr|st|jr|sr|prof|vs|etc|inc|co|corp|ltd|ave|blvd|rd|dept|no|gen|sgt|mt|ft)\."
)
TOKEN: Final = re.compile(
    rf"""
      (?:[a-z]\.)+[a-z]\.?(?![a-z])             # u.s. and a.m
    | {ABBREVIATED}(?=\s|$)
    | [$£€]
    | \d+:\d\d(?=[ap]m\b)                       # 5:30|pm
    | [^\W_]*\d+(?:[.,:/-]\d+)*(?:[^\W_]|-(?=[^\W_]))*   # 3,000 and 5:30 and 1970s and t20
    | (?:[^\W_]|_)+?(?=n't\b)                   # is|n't
    | n't\b
    | '(?:s|m|d|re|ve|ll)\b
    | (?:[^\W_]|_)+(?:[-/&](?:[^\W_]|_)+|'(?!(?:s|m|d|re|ve|ll)\b)(?=[^\W_])(?:[^\W_]|_)+)*
    | \.\.\.+ | --+ | [^\w\s]
    """,
    re.VERBOSE,
)


def tokenize(caption: str) -> list[str]:
    """The words of a caption.

    >>> tokenize("A man's dog isn't here, it's on the T-shirt (really)...")
    ['a', 'man', "'s", 'dog', 'is', "n't", 'here', 'it', "'s", 'on', 'the', 't-shirt', '-lrb-', \
'really', '-rrb-']
    """
    words: list[str] = []
    for token in TOKEN.findall(unescape(caption).lower().replace("\u2019", "'")):
        if token in HALVED:
            words += HALVED[token]
        elif token not in PUNCTUATION and token != '"' and not set(token) <= {".", "-"}:
            words.append(BRACKETS.get(token, token))
    return words


def is_plain(caption: str) -> bool:
    """Whether a caption is words of plain letters alone: any tokenizer leaves it as it is."""
    return re.fullmatch(r"[a-z]+(?: [a-z]+)*", caption) is not None and not (
        HALVED.keys() & caption.split()
    )


SPECIALS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(SPECIALS))
FILE: Final = "words.json"


@final
@dataclass(frozen=True)
class Vocabulary:
    """Words in order, the special tokens first."""

    words: tuple[str, ...]

    @classmethod
    def learn(
        cls, captions: Iterable[str], *, least: int = 1, size: int | None = None
    ) -> Vocabulary:
        """The words that stand in captions ``least`` times or more, the most frequent first.

        Args:
            captions: of the training set.
            least: times that a word stands there.
            size: tokens at most, the special ones counted; ``None`` is all.
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
        """Word -> token."""
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, caption: str) -> list[int]:
        """The words of a caption as tokens, without any special one but ``<unk>``."""
        return [self.ids.get(word, UNK) for word in tokenize(caption)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Words with a space between them."""
        return " ".join(self.words[token] for token in tokens)

    def save(self, folder: Path) -> None:
        """As JSON, a list of the words in order."""
        text = json.dumps(self.words, ensure_ascii=False, indent=0)
        (folder / FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read back what `save` wrote.

        Raises:
            DataError: the file is missing or no such list.
        """
        path = folder / FILE
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("it is no list of words")
            if tuple(words[: len(SPECIALS)]) != SPECIALS:
                raise ValueError(f"it does not begin with {', '.join(SPECIALS)}")
        except (OSError, ValueError) as error:
            raise not_as_saved(path, error) from error
        return cls(tuple(words))


def not_as_saved(path: Path, cause: object) -> DataError:
    """The error of a file beside a model that cannot be read."""
    return DataError(
        path,
        needs="be as it was saved beside its model",
        has=f"cannot be read: {cause}",
        hint="Name the folder that `embshare train` wrote.",
    )
