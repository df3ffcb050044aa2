"""Plain English split into words as the text of a word vocabulary is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["split_as_corpus"]

TREEBANK: Final = re.compile(r"(?<=\w)(n't|'\w+)|([.,?!;:])")
"""Split of the Penn Treebank: ``is n't``."""
WIKITEXT: Final = re.compile(r"(?<=\w)('\w+)|([.,?!;:])")
"""Split of WikiText: ``isn 't``."""


def split_as_corpus(sentences: Sequence[str], ids: Mapping[str, int]) -> list[str]:
    """Put spaces before punctuation and contractions, as in the text that words are from.

    Args:
        sentences: plain English.
        ids: numbers of words, the more frequent ones lower; they tell one corpus from the other.
    """
    treebank, wikitext = (ids.get(word, len(ids)) for word in ("n't", "'t"))
    pattern = WIKITEXT if wikitext < treebank else TREEBANK
    return [pattern.sub(r" \1\2", sentence) for sentence in sentences]
