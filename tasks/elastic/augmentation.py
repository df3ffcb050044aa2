"""More sentences from those of a training set: some words are replaced by likely ones.

DynaBERT's two distilling stages read sentences without labels, so that there can be many. A word
that the tokenizer knows is replaced by what a masked language model would put in its place; any
other by a neighbour among word vectors. Both come from local files.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, final

import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.tasks.errors import DataError, MissingDataError

__all__ = [
    "GLUE_FILES",
    "STOP_WORDS",
    "Augmenter",
    "GlueFile",
    "WordVectors",
    "augment_file",
    "augment_row",
]

CONTINUED: Final = "##"
"""Prefix of a token that continues a word."""

STOP_WORDS: Final = frozenset(
    """
    i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
    yourselves he him his himself she she's her hers herself it it's its itself they them their
    theirs themselves this that that'll these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at
    by for with about against between into through during before after above below to from up down
    in out on off over under again further then once here there all any both each few
    more most other some such no nor not only own same so than too very s t can will just don
    don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't doesn
    doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn
    needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't 's 're
    """.split()
)
"""English words that are never replaced: those of NLTK's list, with two endings more and without
question words, as officially."""


@final
class WordVectors:
    """Words and their directions, ``[W, D]`` of W words in D dimensions.

    Args:
        words: ``W`` different ones.
        vectors: ``[W, D]``; a vector of zeros is nobody's neighbour.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor) -> None:
        self.words = list(words)
        self.place = {word: index for index, word in enumerate(words)}
        self.directions = vectors / vectors.norm(dim=1, keepdim=True)  # NaN of a vector of zeros

    @classmethod
    def read(cls, path: Path, *, limit: int = 100_000) -> Self:
        """Read a file in GloVe's text format: in each line a word and its numbers.

        Args:
            path: a local file; nothing is fetched.
            limit: lines that are read: the most frequent words come first.
        Raises:
            MissingDataError: no such file.
            DataError: no line in it, or a line that is not a word and as many numbers as the first
                has.
        """
        hint = "Name a local file in GloVe's text format."
        if not path.is_file():
            raise MissingDataError(path, needs="be a file", has="is not there", hint=hint)
        words: dict[str, list[float]] = {}
        with path.open(encoding="utf-8") as lines:
            for number, line in zip(range(1, limit + 1), lines, strict=False):
                word, *numbers = line.rstrip().split(" ")
                try:
                    words[word] = [float(part) for part in numbers]
                except ValueError:
                    words[word] = []
                count = len(next(iter(words.values())))
                if not 0 < len(words[word]) == count:
                    needs = f"have a word and {count or 'its'} numbers, divided by spaces"
                    raise DataError(path, number, needs=needs, has=f"is {line[:40]!r}", hint=hint)
        if not words:
            raise DataError(path, needs="hold words and vectors", has="it is empty", hint=hint)
        vectors = torch.tensor(list(words.values()), dtype=torch.float64)
        if "<unk>" in words:
            vectors[list(words).index("<unk>")] = 0  # it is no word
        return cls(list(words), vectors)

    def nearest(self, word: str, count: int) -> list[str]:
        """The words of the smallest angle to a word, nearest first; none where it has no vector."""
        if word not in self.place:
            return []
        index = self.place[word]
        cosines = (self.directions @ self.directions[index]).nan_to_num(nan=-torch.inf)
        cosines[index] = -torch.inf
        near = torch.argsort(cosines, descending=True, stable=True)[:count]
        return [self.words[i] for i in near.tolist() if cosines[i].isfinite()]


@dataclass(frozen=True, kw_only=True)
class Augmenter:
    """Makes variants of sentences.

    Args:
        model: a masked language model of transformers, BERT as a rule, in evaluation mode.
        tokenizer: the model's: a fast one that marks continued words by ``##``.
        vectors: for words that the tokenizer cuts; None leaves those as they are.
        candidates: ``M``, the number of likely words that are asked for.
        variants: ``N``, how many times each sentence is drawn; equal draws are kept once.
        probability: probability of replacing each word of a variant.
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
        kind = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "model", None)
        if getattr(kind, "continuing_subword_prefix", None) != CONTINUED:
            faults.append(
                f"`tokenizer` must be a fast WordPiece tokenizer with {CONTINUED!r}, as BERT's, "
                f"but is a {type(self.tokenizer).__name__}"
            )
        if faults:
            raise InvalidValueError(what="the augmenter", faults=faults)

    def words(self, sentence: str) -> list[str]:
        """A sentence's words and marks, as BERT divides them before it looks for tokens."""
        backend = self.tokenizer.backend_tokenizer
        normal = backend.normalizer.normalize_str(sentence) if backend.normalizer else sentence
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]

    def replacements(self, sentence: str) -> dict[int, list[str]]:
        """Candidates for each word that may be replaced, by its place; itself without any.

        Words with other characters than the letters a to z, and stop words, are not replaced.
        """
        words = self.words(sentence)
        tokens = [self.tokenizer.tokenize(word) for word in words]
        found: dict[int, list[str]] = {}
        for index, word in enumerate(words):
            if re.fullmatch("[a-z]*", word.lower()) and word.lower() not in self.stop_words:
                known = len(tokens[index]) == 1
                likely = self._likely(tokens, index) if known else self._neighbours(word)
                found[index] = likely or [word]
        return found

    def augment(self, sentence: str, generator: random.Random) -> list[str]:
        """The sentence itself, then its variants, all different.

        Args:
            sentence: of a training set.
            generator: random numbers: for each word a choice, then a number.
        """
        found, words = self.replacements(sentence), self.words(sentence)
        made = {sentence: None}
        for _ in range(self.variants):
            variant = list(words)
            for index, likely in found.items():
                word = generator.choice(likely)
                if generator.random() < self.probability:
                    variant[index] = word
            made[" ".join(variant)] = None
        return list(made)

    @torch.no_grad()
    def _likely(self, words: Sequence[Sequence[str]], index: int) -> list[str]:
        """Predictions of the model in a word's place, next to the whole sentence."""
        config: Any = self.model.config
        longest = min(512, int(config.max_position_embeddings))
        tokens = [token for word in words for token in word]
        place = 1 + sum(len(word) for word in words[:index])
        if place >= longest:
            return []
        start, end = self.tokenizer.cls_token, self.tokenizer.sep_token
        masked = [start, *tokens, end]
        masked[place] = self.tokenizer.mask_token
        pair = [*masked, *tokens, end][:longest]
        ids = torch.tensor([self.tokenizer.convert_tokens_to_ids(pair)])
        types = (torch.arange(len(pair)) >= len(masked)).long()[None]
        device = next(self.model.parameters()).device
        outputs = self.model(input_ids=ids.to(device), token_type_ids=types.to(device))
        best = torch.argsort(outputs.logits[0, place], descending=True)[: self.candidates]
        found: list[str] = self.tokenizer.convert_ids_to_tokens(best.tolist())
        return [token for token in found if not token.startswith(CONTINUED)]

    def _neighbours(self, word: str) -> list[str]:
        near = [] if self.vectors is None else self.vectors.nearest(word, self.candidates)
        return [other.title() for other in near] if word.istitle() else near


def augment_row(
    row: Sequence[str],
    columns: Sequence[int],
    augmenter: Augmenter,
    generator: random.Random,
    *,
    keep_last: bool = True,
) -> Iterator[list[str]]:
    """Rows of a table with one of its sentences replaced by a variant, the given row first.

    Args:
        row: the cells of one example.
        columns: indices of its sentences: one or two.
        augmenter: makes the variants.
        generator: random numbers.
        keep_last: True as officially: variants of the second sentence go beside the *last*
            variant of the first. False puts them beside the sentence that was given.
    """
    cells = list(row)
    for column in columns:
        for text in augmenter.augment(row[column], generator):
            cells[column] = text
            yield list(cells)
        if not keep_last:
            cells[column] = row[column]


@dataclass(frozen=True)
class GlueFile:
    """Columns of the sentences of a published training file, and how often they are drawn."""

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
        seed: of the random numbers.
        keep_last: as in `augment_row`.
    Returns:
        How many rows were written, without the header.
    Raises:
        DataError: a row has too few cells.
    """
    generator, count = random.Random(seed), 0
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open(encoding="utf-8") as lines, part.open("w", encoding="utf-8") as out:
            for number, line in enumerate(lines, 1):
                row = line.rstrip("\n").split("\t")
                if number == 1 and layout.header:
                    out.write(line)
                    continue
                if len(row) <= (last := max(layout.columns)):
                    needs, has = f"have more than {last} cells", f"has {len(row)}"
                    hint = "Give the layout of this file."
                    raise DataError(source, number, needs=needs, has=has, hint=hint)
                for made in augment_row(
                    row, layout.columns, augmenter, generator, keep_last=keep_last
                ):
                    out.write("\t".join(made) + "\n")
                    count += 1
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return count
