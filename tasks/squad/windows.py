"""Questions with their passages as rows of symbols; a long passage gives several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.reading import Question
from embshare.tasks.text.tokenizer import TextTokenizer, second_sentence

__all__ = ["Window", "make_windows"]


@dataclass(frozen=True)
class Window:
    """A question and a part of its passage."""

    question: int
    """The number of the question."""
    ids: list[int]
    kinds: list[int]
    """1 from the passage on, 0 before."""
    places: list[tuple[int, int] | None]
    """The characters ``[first, last)`` of the passage that each symbol stands for."""

    def inputs(self, *, kinds: bool) -> dict[str, Any]:
        """As a model takes them."""
        row: dict[str, Any] = {"input_ids": self.ids}
        return {**row, "token_type_ids": self.kinds} if kinds else row

    def span(self, question: Question) -> tuple[int, int]:
        """The first and last symbol of the answer; 0 and 0 where it is not in this window."""
        if question.start is None:
            return 0, 0
        start, stop = question.start, question.start + len(question.answers[0])
        inside = [(i, p) for i, p in enumerate(self.places) if p is not None and p[0] < p[1]]
        if not inside or inside[0][1][0] > start or inside[-1][1][1] < stop:
            return 0, 0
        touched = [i for i, (first, last) in inside if first < stop and last > start]
        return (touched[0], touched[-1]) if touched else (0, 0)


def make_windows(
    tokenizer: TextTokenizer, questions: Sequence[Question], config: SquadConfig
) -> Iterator[Window]:
    """All windows of all questions, in order.

    Question and passage are encoded apart and put together as the tokenizer does with two
    sentences. Windows overlap where a passage does not fit into one.
    """
    backend = tokenizer.fast.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # a text that spells one out is ordinary text
    extra = backend.num_special_tokens_to_add(True)
    for number, question in enumerate(questions):
        asked = _question(backend, question.question, config.question_length)
        passage = backend.encode(question.passage, add_special_tokens=False)
        room = config.length - len(asked.ids) - extra
        passage.truncate(room, stride=max(0, room - config.stride))
        for part in (passage, *passage.overflowing):
            yield _window(number, backend.post_process(asked, part, True))


def _question(backend: Any, text: str, most: int) -> Any:
    """The first symbols of a question. The rest is cut off the text: an encoding keeps what it is
    truncated by, and every part of a passage would be put together with all of that."""
    found = backend.encode(text, add_special_tokens=False)
    if len(found.ids) > most:
        found = backend.encode(text[: found.offsets[most - 1][1]], add_special_tokens=False)
        found.truncate(most)
    return found


def _window(number: int, encoded: Any) -> Window:
    sides = encoded.sequence_ids
    places = [
        place if side == 1 else None for place, side in zip(encoded.offsets, sides, strict=True)
    ]
    return Window(number, encoded.ids, second_sentence(sides), places)
