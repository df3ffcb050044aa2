"""A caption as the words that are scored and learned: lower case, without punctuation.

`tokenize` follows the Penn Treebank rules as pycocoevalcap applies them with Stanford's tokenizer,
which is a Java program. It is what vocabularies are learned from, on any machine. Scores under the
published names use the Java program; see `embshare.tasks.captioning.scores`.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final

__all__ = ["is_plain", "tokenize"]

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
