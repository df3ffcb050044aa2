"""Captions as words, lower case and without punctuation, and the vocabulary of those words.

`tokenize` follows the Penn Treebank rules as pycocoevalcap applies them with Stanford's tokenizer,
which is a Java program. It is what vocabularies are learned from, on any machine. Scores under the
published names use the Java program; see `embshare.tasks.captioning.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from embshare.tasks.errors import DataError
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "PUNCTUATION",
    "SPECIAL",
    "UNK",
    "Vocabulary",
    "is_plain",
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


SPECIAL: Final[Mapping[str, str]] = MappingProxyType(
    {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
)
"""Special tokens, the first words of a vocabulary."""
PAD, BOS, EOS, UNK = range(len(SPECIAL))
FILE: Final = "words.json"
"""List of words that earlier versions wrote."""


@final
@dataclass(frozen=True)
class Vocabulary:
    """Words of captions: a word-level tokenizer behind `tokenize`."""

    tokenizer: TextTokenizer

    @classmethod
    def learn(
        cls, captions: Iterable[str], *, least: int = 1, size: int | None = None
    ) -> Vocabulary:
        """Learn the words of captions, the most frequent first.

        Args:
            captions: captions of the training set.
            least: minimum number of occurrences of a word.
            size: maximum number of tokens, the special ones included; ``None`` is all.
        Raises:
            VocabularySizeError: the size leaves no room for a word.
        """
        texts = (" ".join(tokenize(caption)) for caption in captions)
        made = TextTokenizer.learn(texts, size, kind="words", special=SPECIAL, min_count=least)
        return cls(made)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, caption: str) -> list[int]:
        """The words of a caption as tokens, without any special one but ``<unk>``."""
        return self.tokenizer.ids([" ".join(tokenize(caption))])[0]

    def decode(self, tokens: Sequence[int]) -> str:
        """Words with a space between them."""
        return self.tokenizer.decode(tokens)

    def save(self, folder: Path) -> None:
        """Write a tokenizer of transformers, which reads captions that `tokenize` has split."""
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read back what `save` wrote.

        Raises:
            TokenizerError: a file is missing or no tokenizer.
            DataError: it has other special tokens.
        """
        if (folder / FILE).is_file():
            found = TextTokenizer.from_file(folder / FILE, SPECIAL)
        else:
            found = TextTokenizer.load(str(folder), needs=tuple(SPECIAL))
        if found.special_ids != {f"{kind}_id": number for number, kind in enumerate(SPECIAL)}:
            raise DataError(
                folder,
                needs=f"hold a vocabulary that begins with {', '.join(SPECIAL.values())}",
                has="holds another one",
                hint="Name the folder that `embshare train` wrote.",
            )
        return cls(found)
