"""Translate sentences with a trained model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import MatchedSeq2Seq
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search
from embshare.tasks.translation.lengths import LongSentence, Positions
from embshare.tasks.translation.rows import pad_rows
from embshare.tasks.translation.subwords import Subwords

__all__ = ["Translator", "longest_translation"]

AHEAD: Final = 16  # batches that are read before they are sorted by length
NEWLINE: Final = re.compile(r"\r?\n")
"""What a line of a file cannot hold; all else within a line is left as training sees it."""
LINE_END: Final = re.compile(r"[\r\n]+")
"""What a translation cannot hold, or whoever reads lines would find too many."""


def longest_translation(length: int) -> int:
    """Maximum number of tokens of a translation of ``length`` tokens; a search that ends by itself
    hardly ever ends later."""
    return 2 * length + 20


@dataclass(frozen=True, kw_only=True)
class Translator:
    """Decoding settings."""

    subwords: Subwords
    start: int
    """The token before every translation; models of transformers have their own."""
    beam: int
    """Beam size; 1 is greedy decoding."""
    length_penalty: float
    """Length penalty, as in `embshare.tasks.decoding.Beam`."""
    batch_size: int
    """Number of sentences in a batch."""

    def all(self, model: nn.Module, lines: Sequence[str], *, first: int = 1) -> list[str]:
        """Translations of all lines, computed from the longest to the shortest; each is one line.

        Args:
            model: matched model, or model of transformers.
            lines: sentences to translate.
            first: number of the first line, for an error.
        Raises:
            SentenceTooLongError: one has more tokens than the model has positions.
        """
        sources, positions = list(self.subwords.encode_source(lines)), Positions.of(model)
        for number, source in enumerate(sources, first):
            LongSentence(f"line {number:,}", "source", len(source)).check(positions)
        order = sorted(range(len(lines)), key=lambda i: (-len(sources[i]), i))
        found = [""] * len(lines)
        with cached(model):
            for begin in range(0, len(order), self.batch_size):
                chosen = order[begin : begin + self.batch_size]
                for place, tokens in zip(
                    chosen, self._batch(model, [sources[i] for i in chosen]), strict=True
                ):
                    found[place] = LINE_END.sub(" ", self.subwords.decode(tokens))
        return [text if line else "" for line, text in zip(lines, found, strict=True)]

    def stream(self, model: nn.Module, lines: Iterable[str]) -> Iterator[str]:
        """Translations in order; some batches of lines are read ahead, not all. Errors as `all`."""
        parts, first = (NEWLINE.sub(" ", line).strip() for line in lines), 1
        while block := list(islice(parts, AHEAD * self.batch_size)):
            yield from self.all(model, block, first=first)
            first += len(block)

    @torch.inference_mode()
    def _batch(self, model: nn.Module, sources: Sequence[Sequence[int]]) -> Iterable[Sequence[int]]:
        model.eval()
        device = next(model.parameters()).device
        rows = [torch.tensor(source) for source in sources]
        ids = pad_rows(rows, self.subwords.pad).to(device)
        mask = pad_rows([torch.ones_like(row) for row in rows], 0).to(device)
        limits = [longest_translation(len(source)) for source in sources]
        if isinstance(model, MatchedSeq2Seq):
            return self._matched(model, ids, mask, limits)
        return self._generated(model, ids, mask, limits)

    def _matched(
        self, model: MatchedSeq2Seq, ids: Tensor, mask: Tensor, limits: Sequence[int]
    ) -> Iterable[Sequence[int]]:
        scorer = SequenceScorer(model, banned=(self.subwords.pad, self.start))
        start, end = scorer.start(model.encode(ids, mask)), self.subwords.end
        if self.beam == 1:
            return greedy_search(
                scorer, start, limits=limits, first=self.start, end=end, device=ids.device
            )
        found = beam_search(
            scorer,
            start,
            limits=limits,
            first=self.start,
            end=end,
            beam=Beam(width=self.beam, length_penalty=self.length_penalty),
            device=ids.device,
        )
        return [row[0].symbols for row in found]

    def _generated(
        self, model: Any, ids: Tensor, mask: Tensor, limits: Sequence[int]
    ) -> Iterable[Sequence[int]]:
        """Decode with the model's own ``generate``, in which each row ends at its own limit."""
        from transformers import StoppingCriteriaList

        room = Positions.of(model).target - 1  # the start token has one
        limits = [min(limit, room) for limit in limits]
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=self.beam,
            length_penalty=self.length_penalty,
            # One that is never written: some models force an end there, and there alone.
            max_new_tokens=max(limits) + 1,
            stopping_criteria=StoppingCriteriaList([_ended(limits)]),
            do_sample=False,
            early_stopping=False,
        )
        return [row[: 1 + limit] for row, limit in zip(found.tolist(), limits, strict=True)]


def _ended(limits: Sequence[int]) -> Callable[[Tensor, object], Tensor]:
    """A criterion by which rows end that have as many tokens after the start as they may have; rows
    are the hypotheses of the first source, then those of the second, and so on."""

    def ended(ids: Tensor, scores: object) -> Tensor:
        most = torch.tensor(limits, device=ids.device)
        return most.repeat_interleave(len(ids) // len(limits)) < ids.shape[1]

    return ended
