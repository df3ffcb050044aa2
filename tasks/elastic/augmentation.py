"""More sentences from those of a training set: some words are replaced by likely ones.

DynaBERT's two distilling stages read sentences without labels, so that there can be many. A word
that the tokenizer knows is replaced by what a masked language model would put in its place; any
other by a neighbour among word vectors. Both come from local files.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from embshare.errors import InvalidValueError
from embshare.tasks.elastic.stop_words import STOP_WORDS
from embshare.tasks.elastic.vectors import WordVectors

__all__ = ["GLUE_FILES", "Augmenter", "GlueFile", "augment_file", "augment_row"]

More: TypeAlias = Callable[[list[str]], Iterator[list[str]]]

CONTINUED: Final = "##"


@dataclass(frozen=True, kw_only=True)
class Augmenter:
    """Makes variants of sentences.

    Args:
        model: a masked language model of transformers, BERT as a rule, in evaluation mode.
        tokenizer: the model's: a fast one that marks continued words by ``##``.
        vectors: for words that the tokenizer cuts; None leaves those as they are.
        candidates: ``M``: how many likely words are asked for.
        variants: ``N``: how many times each sentence is drawn; equal draws are kept once.
        probability: with which each word of a variant is replaced.
    Raises:
        InvalidValueError: a number out of range, or a tokenizer that does not fit.
    Source:
        TinyBERT (Jiang et al., 2020), algorithm 1, and its ``data_augmentation.py``, which DynaBERT
        uses.
    """

    model: nn.Module
    tokenizer: Any
    vectors: WordVectors | None = None
    candidates: int = 15
    variants: int = 30
    probability: float = 0.4
    stop_words: frozenset[str] = STOP_WORDS

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        faults = [
            f"`{name}` must be at least 1, but is {value}"
            for name, value in (("candidates", self.candidates), ("variants", self.variants))
            if value < 1
        ]
        if not 0 < self.probability <= 1:
            faults.append(
                f"`probability` must be above 0 and at most 1, but is {self.probability!r}"
            )
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        kind = getattr(backend, "model", None)
        if getattr(kind, "continuing_subword_prefix", None) != CONTINUED:
            faults.append(
                f"`tokenizer` must be a fast one of word pieces with {CONTINUED!r}, as BERT's, but "
                f"is a {type(self.tokenizer).__name__}"
            )
        if faults:
            raise InvalidValueError(what="the augmenter", faults=faults)

    def words(self, sentence: str) -> list[str]:
        """A sentence's words and marks, as BERT divides them before it looks for pieces."""
        backend = self.tokenizer.backend_tokenizer
        normal = backend.normalizer.normalize_str(sentence) if backend.normalizer else sentence
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]

    def replacements(self, sentence: str) -> dict[int, list[str]]:
        """For each word that may be replaced, by its place: by what, itself where nothing is known.

        Words of other signs than the letters a to z, and stop words, are not replaced.
        """
        words = self.words(sentence)
        pieces = [self.tokenizer.tokenize(word) for word in words]
        found: dict[int, list[str]] = {}
        for index, word in enumerate(words):
            if re.fullmatch("[a-z]*", word.lower()) and word.lower() not in self.stop_words:
                likely = (
                    self._likely(pieces, index)
                    if len(pieces[index]) == 1
                    else self._neighbours(word)
                )
                found[index] = likely or [word]
        return found

    def augment(self, sentence: str, chance: random.Random) -> list[str]:
        """The sentence itself, then its variants, all different.

        Args:
            sentence: of a training set.
            chance: the source of chance: for each word a choice, then a number.
        """
        found, words = self.replacements(sentence), self.words(sentence)
        made = [sentence]
        for _ in range(self.variants):
            variant = list(words)
            for index, likely in found.items():
                word = chance.choice(likely)
                if chance.random() < self.probability:
                    variant[index] = word
            text = " ".join(variant)
            if text not in made:
                made.append(text)
        return made

    def _likely(self, pieces: Sequence[Sequence[str]], index: int) -> list[str]:
        """What the model expects in a word's place, next to the whole sentence."""
        flat = [piece for word in pieces for piece in word]
        place = 1 + sum(len(word) for word in pieces[:index])
        masked = [*flat[: place - 1], self.tokenizer.mask_token, *flat[place:]]
        start, end = self.tokenizer.cls_token, self.tokenizer.sep_token
        longest = self._longest()
        tokens = [start, *masked, end, *flat, end][:longest]
        if place >= longest:
            return []
        first = min(len(masked) + 2, longest)
        ids = torch.tensor([self.tokenizer.convert_tokens_to_ids(tokens)])
        types = (torch.arange(len(tokens)) >= first).long()[None]
        device = next(self.model.parameters()).device
        with torch.no_grad():
            scores = self.model(input_ids=ids.to(device), token_type_ids=types.to(device)).logits[
                0, place
            ]
        best = torch.argsort(scores, descending=True)[: self.candidates].tolist()
        words: list[str] = self.tokenizer.convert_ids_to_tokens(best)
        return [word for word in words if not word.startswith(CONTINUED)]

    def _neighbours(self, word: str) -> list[str]:
        near = [] if self.vectors is None else self.vectors.nearest(word, self.candidates)
        return [other.title() for other in near] if word.istitle() else near

    def _longest(self) -> int:
        config: Any = self.model.config
        return min(512, int(config.max_position_embeddings))


def augment_row(
    row: Sequence[str],
    columns: Sequence[int],
    augmenter: Augmenter,
    chance: random.Random,
    *,
    keep_last: bool = True,
) -> Iterator[list[str]]:
    """Rows of a table with one of its sentences replaced by a variant, the given row first.

    Args:
        row: the cells of one example.
        columns: where its sentences stand: one or two.
        augmenter: makes the variants.
        chance: the source of chance.
        keep_last: True as officially: variants of the second sentence stand beside the *last*
            variant of the first. False puts them beside the sentence that was given.
    """
    cells = list(row)
    for column in columns:
        for text in augmenter.augment(row[column], chance):
            cells[column] = text
            yield list(cells)
        if not keep_last:
            cells[column] = row[column]


@dataclass(frozen=True)
class GlueFile:
    """Where the sentences of a published training file stand, and how often they are drawn."""

    columns: tuple[int, ...]
    variants: int
    header: bool = True


GLUE_FILES: Final[Mapping[str, GlueFile]] = MappingProxyType(
    {
        "CoLA": GlueFile((3,), 30, header=False),
        "MNLI": GlueFile((8, 9), 10),
        "MRPC": GlueFile((3, 4), 30),
        "QNLI": GlueFile((1, 2), 20),
        "QQP": GlueFile((3, 4), 10),
        "RTE": GlueFile((1, 2), 30),
        "SST-2": GlueFile((0,), 20),
        "STS-B": GlueFile((7, 8), 30),
    }
)
"""Published training files; the numbers of variants are the official ones."""


def augment_file(
    source: Path,
    target: Path,
    layout: GlueFile,
    augmenter: Augmenter,
    *,
    seed: int = 0,
    keep_last: bool = True,
) -> int:
    """Write a table, divided by tabs and not quoted, with the variants of each of its rows.

    Args:
        source: ``train.tsv`` of a task.
        target: a new file; a part of it is never left behind under its name.
        layout: one of `GLUE_FILES`, or another; give ``augmenter`` its number of variants.
        augmenter: makes the variants.
        seed: of the source of chance.
        keep_last: as in `augment_row`.
    Returns:
        How many rows were written, without the header.
    Raises:
        InvalidValueError: a row has too few cells.
    """
    chance = random.Random(seed)
    part = target.with_name(f".{target.name}.part")
    try:
        count = _write(
            source,
            part,
            layout,
            lambda row: augment_row(row, layout.columns, augmenter, chance, keep_last=keep_last),
        )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write(source: Path, target: Path, layout: GlueFile, more: More) -> int:
    count = 0
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as out:
        for number, line in enumerate(lines, 1):
            row = line.rstrip("\n").split("\t")
            if number == 1 and layout.header:
                out.write(line)
                continue
            if len(row) <= max(layout.columns):
                fault = f"line {number:,} must have more than {max(layout.columns)} cells"
                raise InvalidValueError(
                    what=f"the table `{source}`", faults=[f"{fault}, but has {len(row)}"]
                )
            for made in more(row):
                out.write("\t".join(made) + "\n")
                count += 1
    return count
