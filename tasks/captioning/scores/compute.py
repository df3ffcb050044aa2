"""Scores of captions against references, by the published programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain

import torch

from embshare.tasks.captioning.cider import Frequencies, cider_d, pad_rows
from embshare.tasks.captioning.errors import ScoreError
from embshare.tasks.captioning.scores.meteor import meteor
from embshare.tasks.captioning.scores.plan import ScorePlan
from embshare.tasks.captioning.scores.spice import spice
from embshare.tasks.captioning.tokens import PUNCTUATION, tokenize

__all__ = ["Scores", "score_captions", "score_words", "split_words"]

Captions = Sequence[str]
References = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Scores:
    """Of a whole split."""

    corpus: dict[str, float]
    """By name, as pycocoevalcap gives them: CIDEr from 0 to 10, the others from 0 to 1."""
    cider: tuple[float, ...]
    """Of each caption, for samples."""


def score_captions(captions: Captions, references: References, plan: ScorePlan) -> Scores:
    """Score captions as they are written.

    Args:
        captions: one for each picture.
        references: one or more for each picture.
        plan: which scores, and by which words.
    Raises:
        ScoreError: a program failed.
    """
    every = split_words([*captions, *chain.from_iterable(references)], plan)
    counts = [len(rows) for rows in references]
    parts = iter(every[len(captions) :])
    return score_words(
        every[: len(captions)], [[next(parts) for _ in range(count)] for count in counts], plan
    )


def split_words(captions: Captions, plan: ScorePlan) -> list[str]:
    """Captions as words with a space between them, by the plan's tokenizer.

    Raises:
        ScoreError: the Java program failed.
    """
    lines = [" ".join(caption.split()) for caption in captions]
    if plan.words == "plain":
        return lines
    if plan.words == "words":
        return [" ".join(tokenize(line)) for line in lines]
    assert plan.java is not None and plan.package is not None, "`make_plan` sees to this"
    jar = plan.package / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    program = "edu.stanford.nlp.process.PTBTokenizer"
    options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    said = plan.java.run(
        ["-cp", str(jar), program, *options], "".join(f"{line}\n" for line in lines), score="words"
    )
    found = said.split("\n")[:-1]
    if len(found) != len(lines):
        raise ScoreError(
            score="words",
            finding=f"the tokenizer gave {len(found):,} lines for {len(lines):,}",
            way_out="Look for control characters in the captions.",
        )
    return [" ".join(w for w in line.split() if w not in PUNCTUATION) for line in found]


def score_words(captions: Captions, references: References, plan: ScorePlan) -> Scores:
    """Score captions that are words already, with a space between them.

    Raises:
        ScoreError: a program failed.
    """
    each = _cider(captions, references)
    found: dict[str, float] = {}
    for family in plan.families:
        match family:
            case "bleu":
                found |= _bleu(captions, references)
            case "rouge_l":
                found["rouge_l"] = _rouge(captions, references)
            case "cider":
                found["cider"] = sum(each) / len(each)
            case "meteor":
                assert plan.java is not None and plan.package is not None
                found["meteor"] = meteor(captions, references, plan.java, plan.package)
            case "spice":
                assert plan.java is not None and plan.package is not None
                found["spice"] = spice(captions, references, plan.java, plan.package)
    return Scores({f"{name}{plan.suffix}": value for name, value in found.items()}, tuple(each))


def _cider(captions: Captions, references: References) -> list[float]:
    numbers: dict[str, int] = {}

    def encode(line: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in line.split()]

    known = [[encode(line) for line in rows] for rows in references]
    found = [encode(line) for line in captions]
    frequencies = Frequencies.count(known, base=max(1, len(numbers)))
    scores: list[float] = []
    for begin in range(0, len(found), 256):  # more at once would only take more memory
        words, lengths = pad_rows(found[begin : begin + 256])
        others, other_lengths = pad_references(known[begin : begin + 256])
        scores += cider_d(words, lengths, others, other_lengths, frequencies).tolist()
    return scores


def pad_references(rows: Sequence[Sequence[Sequence[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """References as ``[N, K, S]`` with zeros behind, and lengths ``[N, K]``, -1 where is none."""
    flat, flat_lengths = pad_rows([line for lines in rows for line in lines])
    most = max(len(lines) for lines in rows)
    words = torch.zeros(len(rows), most, flat.shape[1], dtype=torch.int64)
    lengths = torch.full((len(rows), most), -1, dtype=torch.int64)
    begin = 0
    for index, lines in enumerate(rows):
        end = begin + len(lines)
        words[index, : len(lines)], lengths[index, : len(lines)] = (
            flat[begin:end],
            flat_lengths[begin:end],
        )
        begin = end
    return words, lengths


def _as_mappings(
    captions: Captions, references: References
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """As pycocoevalcap wants them: references and captions by number."""
    return (
        {index: list(rows) for index, rows in enumerate(references)},
        {index: [line] for index, line in enumerate(captions)},
    )


def _bleu(captions: Captions, references: References) -> dict[str, float]:
    scorer = import_module("pycocoevalcap.bleu.bleu").Bleu(4)
    corpus, _ = scorer.compute_score(*_as_mappings(captions, references), verbose=0)
    return {f"bleu_{order}": float(value) for order, value in enumerate(corpus, start=1)}


def _rouge(captions: Captions, references: References) -> float:
    scorer = import_module("pycocoevalcap.rouge.rouge").Rouge()
    corpus, _ = scorer.compute_score(*_as_mappings(captions, references))
    return float(corpus)
