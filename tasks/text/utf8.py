"""Bytes as text in UTF-8, or where they stop being that."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Foreign", "decoded"]

WIDE: Final = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 begins, where it has a byte order mark."""


class Foreign(NamedTuple):
    """The first byte that text in UTF-8 cannot have at its place."""

    line: int
    """Line of the byte, from 1."""
    byte: int
    guess: str
    """Likely encoding of the text, as ``iconv`` names it."""


def decoded(raw: bytes) -> str | Foreign:
    """The text of a file, with a byte order mark if it has one, or why it is none.

    A zero byte is UTF-8, but in text it is a half of a character in UTF-16: without a mark at the
    beginning, nothing else tells the two apart.
    """
    try:
        text = raw.decode("utf-8")
        at = raw.find(b"\0")
    except UnicodeDecodeError as error:
        text, at = "", error.start
    if at < 0:
        return text
    guess = "utf-16" if b"\0" in raw or raw[:2] in WIDE else "latin1"
    return Foreign(raw.count(b"\n", 0, at) + 1, raw[at], guess)
