"""What masking and filling need to know of each token: special ones, word starts, spellings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np

from embshare.tasks.pretraining.counter_rng import Bools, Integers
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["TokenProperties"]

BREAKS: Final = "Ċčĉ\n\r\t"
"""Line ends and tabs, as byte-level tokens spell them, and as they are."""
BLANK: Final = "▁"
"""A space in tokens of SentencePiece."""
WHITE: Final = f"Ġ{BLANK} {BREAKS}"


@final
@dataclass(frozen=True)
class TokenProperties:
    """Properties of all tokens of a fast tokenizer, each computed once."""

    tokenizer: TextTokenizer

    @cached_property
    def special(self) -> Bools:
        """``[V]``, true for tokens that are never predicted."""
        found = np.zeros(len(self.tokenizer), dtype=bool)
        found[self.tokenizer.fast.all_special_ids] = True
        return found

    @cached_property
    def ordinary(self) -> Integers:
        """Ids of all tokens that are not special."""
        return np.flatnonzero(~self.special)

    @cached_property
    def begins(self) -> Bools | None:
        """``[V]``, true for tokens that begin a word; ``None`` where nothing marks them.

        White space is a word; what comes after it may begin one too, see `words_begin`.
        transformers' whole-word masking reads words from offsets instead, which the tokens of a
        text on disk no longer have.
        """
        if self._prefix:
            return ~np.array([token.startswith(self._prefix) for token in self._tokens])
        for mark in ("Ġ", BLANK):
            begins: Bools = np.array([token.startswith(mark) for token in self._tokens])
            if begins.any():
                white: Bools = np.array(
                    [token != "" == token.strip(WHITE) for token in self._tokens]
                )
                return begins | white | self.special
        return None

    @cached_property
    def _breaks(self) -> Bools:
        """``[V]``, true for tokens that end with white space other than a space: the word after it
        has no mark at its beginning. A token that is a space belongs to the word after it."""
        return np.array([token.endswith(tuple(BREAKS)) for token in self._tokens])

    @cached_property
    def _prefix(self) -> str:
        """How tokens within a word begin; empty where the tokenizer has no such mark."""
        return getattr(self._backend.model, "continuing_subword_prefix", None) or ""

    @cached_property
    def _tokens(self) -> list[str]:
        fast = self.tokenizer.fast
        return [token or "" for token in fast.convert_ids_to_tokens(list(range(len(fast))))]

    def words_begin(self, ids: Integers) -> Bools:
        """``[B, T]``, true where a word begins in rows ``[B, T]`` of a tokenizer with `begins`."""
        assert self.begins is not None, "`Pretraining.prepare` checks this"
        found: Bools = self.begins[ids]
        found[:, 1:] |= self._breaks[ids[:, :-1]]
        return found

    @cached_property
    def spellings(self) -> list[str]:
        """Spelling of each token within a text: with the space before a word where the token has
        it, without the mark of tokens within a word."""
        alone = [[number] for number in range(len(self.tokenizer))]
        texts = self._backend.decode_batch(alone, skip_special_tokens=False)
        pairs = zip(self._tokens, texts, strict=True)
        return [self._spelling(token, text) for token, text in pairs]

    def _spelling(self, token: str, text: str) -> str:
        if self._prefix:
            return text.removeprefix(self._prefix)
        return token.replace(BLANK, " ") if token.startswith(BLANK) else text

    @cached_property
    def fitting(self) -> Bools:
        """``[V]``, true for tokens that can be written into a line: neither special ones nor line
        ends nor parts of a character."""
        lines = (text.splitlines() == [text] and "\ufffd" not in text for text in self.spellings)
        return np.fromiter(lines, dtype=bool) & ~self.special

    @property
    def _backend(self) -> Any:
        return self.tokenizer.fast.backend_tokenizer
