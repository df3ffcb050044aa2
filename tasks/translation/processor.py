"""Subwords, models and decoding: all that a trained model needs beside its weights."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import Architecture, MatchedConfig, MatchedSeq2Seq
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search
from embshare.tasks.errors import DataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import Collate, PairRows, Pairs, Ragged, pad_rows
from embshare.tasks.translation.metrics import SmoothedLoss
from embshare.tasks.translation.subwords import Subwords

__all__ = [
    "ANY",
    "LongSentence",
    "Positions",
    "Side",
    "TranslationProcessor",
    "Translator",
    "learn_processor",
    "load_processor",
    "max_tokens",
]

Side: TypeAlias = Literal["source", "target"]
ANY: Final = sys.maxsize
AHEAD: Final = 16  # batches that are read before they are sorted by length
NEWLINE: Final = re.compile(r"\r?\n")
"""Line ends of a file; other characters within a line are left as in training."""
LINE_END: Final = re.compile(r"[\r\n]+")
"""Characters that would break a translation into several lines."""
# Of different lengths: some models read the source again in place of the target, which shows in the
# number of logits.
SOURCE: Final = ("a", "a b c")
TARGET: Final = ("a b c d e", "a b")


def max_tokens(length: int) -> int:
    """Maximum length of the translation of ``length`` tokens; searches hardly ever end later."""
    return 2 * length + 20


@dataclass(frozen=True)
class Positions:
    """Maximum number of tokens that a model can read, `ANY` where it is unlimited."""

    source: int = ANY
    target: int = ANY

    @classmethod
    def of(cls, model: nn.Module) -> Positions:
        """Read them from the configuration of a model; matched models are unlimited.

        ``n_positions`` does not count: T5's configurations have it, and T5 does not. GPT-2's is
        found by its other name.
        """
        config = getattr(model, "config", None)
        return cls(_declared(config, "encoder"), _declared(config, "decoder"))


def _declared(config: Any, part: Literal["encoder", "decoder"]) -> int:
    """Positions of one half; some configurations consist of two."""
    names = (f"max_{part}_position_embeddings", "max_position_embeddings")
    places = (getattr(config, part, None), config)
    found = (getattr(place, name, None) for place in places for name in names)
    return next((count for count in found if isinstance(count, int)), ANY)


@dataclass(frozen=True)
class LongSentence:
    """A sentence that a model has to read, the longest of its data."""

    place: str
    """Data set, for an error."""
    number: int | str
    """Line or row in it, for an error."""
    side: Side
    tokens: int

    def check(self, positions: Positions) -> None:
        """Check that a model has enough positions.

        Raises:
            DataError: it has fewer.
        """
        most = positions.source if self.side == "source" else positions.target
        if self.tokens > most:
            raise DataError(
                self.place,
                self.number,
                needs=f"have at most {most:,} tokens, as many as the model has positions",
                has=f"has {self.tokens:,}",
                hint="Shorten it, lower `max_length` if it is in the training set, or choose a "
                "model with more positions.",
            )


@final
@dataclass(frozen=True)
class TranslationProcessor:
    """Converts sentences to tokens, and builds models."""

    config: TranslationConfig
    subwords: Subwords
    longest: tuple[LongSentence, ...] = ()
    """Longest sentences of the prepared data, which a model has to read."""

    def save(self, folder: Path) -> None:
        """Save the subwords."""
        self.subwords.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Sizes of the matched model of one architecture: equal tables, head, width and budget."""
        config, subwords = self.config, self.subwords
        # A tokenizer of transformers may have no start token; padding is never in its place.
        learned = config.tokenizer is None
        start = subwords.target.special_ids["bos_token_id"] if learned else subwords.pad
        return MatchedConfig(
            architecture=architecture,
            vocab_size=subwords.sizes[1],
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=subwords.pad,
            bos_token_id=start,
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """Build an encoder-decoder; of transformers, one that ``AutoModelForSeq2SeqLM`` reads.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, or it gives no
                loss for a sentence and its translation.
            DataError: the data have a sentence that is too long for it.
        """
        built = build_model(
            model,
            seed=seed,
            matched=self._matched,
            auto="AutoModelForSeq2SeqLM",
            vocab_size=max(self.subwords.sizes),
        )
        if not is_matched(model):
            _try_pairs(model, built, self.subwords, smoothing=self.config.label_smoothing)
        self.check_reads(model, built)
        return built

    def _matched(self, architecture: Architecture) -> MatchedSeq2Seq:
        subwords = self.subwords
        return MatchedSeq2Seq(
            self.model_config(architecture),
            source_vocab_size=None if subwords.joint else subwords.sizes[0],
        )

    def translator(self, config: TranslationConfig) -> Translator:
        """Make the translator for some settings, which may differ from those of the training."""
        return Translator(
            subwords=self.subwords,
            start=self.model_config("attention").bos_token_id,
            beam=config.beam,
            length_penalty=config.length_penalty,
            batch_size=config.training.eval_batch_size,
        )

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model can read the longest sentences of the prepared data.

        Raises:
            DataError: it has too few positions.
        """
        positions = Positions.of(model)
        for sentence in self.longest:
            sentence.check(positions)

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Translate each line; empty lines stay empty.

        Raises:
            DataError: a line has more tokens than the model has positions.
        """
        return self.translator(self.config).stream(model, inputs)


def learn_processor(config: TranslationConfig, train: Pairs) -> TranslationProcessor:
    """Learn the subwords from the training set, or load the tokenizer of the settings.

    Raises:
        VocabularySizeError: the vocabulary size is too small.
        TokenizerError: the tokenizer cannot be loaded, or has one token for padding and the end.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, Subwords.pretrained(config.tokenizer))
    learned = Subwords.learn(
        train.source,
        train.target,
        size=config.vocabulary_size,
        joint=config.subwords == "joint",
    )
    return TranslationProcessor(config, learned)


def load_processor(config: TranslationConfig, folder: Path) -> TranslationProcessor:
    """Load what `TranslationProcessor.save` wrote.

    Raises:
        TokenizerError: a file is missing or not a tokenizer.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, Subwords.pretrained(str(folder)))
    joint = config.subwords == "joint"
    return TranslationProcessor(config, Subwords.load(folder, joint=joint))


def _try_pairs(name: str, model: nn.Module, subwords: Subwords, *, smoothing: float) -> None:
    """Run a model on two pairs, one of them padded, as training and validation will.

    Torch's random state and the model's training mode are left as they were.

    Raises:
        ModelNotForTaskError: the model gives no loss.
    """
    source, target = subwords.encode_source(SOURCE), subwords.encode_target(TARGET)
    rows = PairRows(Ragged.of(source), Ragged.of(target))
    device, training = next(model.parameters()).device, model.training
    batch = {k: v.to(device) for k, v in Collate(subwords.pad)([rows[0], rows[1]]).items()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()(**batch)["loss"].item()
            if smoothing:
                SmoothedLoss(smoothing)(model, batch, 1)
    except Exception as error:  # models raise errors of any class
        first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")
        raise ModelNotForTaskError(
            model=name,
            finding=f"it gives no loss for a sentence and its translation ({first})",
            hint="Name another model that `AutoModelForSeq2SeqLM` reads, or lstm, conv or "
            "attention.",
        ) from error
    finally:
        model.train(training)


@dataclass(frozen=True, kw_only=True)
class Translator:
    """Translates sentences by beam search."""

    subwords: Subwords
    start: int
    """Start token of translations; models of transformers know their own."""
    beam: int
    """Beam size; 1 is greedy decoding."""
    length_penalty: float
    """Length penalty, as in `embshare.tasks.decoding.Beam`."""
    batch_size: int
    """Batch size (sentences)."""

    def all(self, model: nn.Module, lines: Sequence[str], *, first: int = 1) -> list[str]:
        """Translate lines, from the longest to the shortest; each translation is one line.

        Args:
            model: matched model, or model of transformers.
            lines: sentences to translate.
            first: number of the first of them, for an error.
        Raises:
            DataError: a line has more tokens than the model has positions.
        """
        sources, positions = list(self.subwords.encode_source(lines)), Positions.of(model)
        for number, source in enumerate(sources, first):
            LongSentence("input", number, "source", len(source)).check(positions)
        order = sorted(range(len(lines)), key=lambda i: (-len(sources[i]), i))
        found = [""] * len(lines)
        with cached(model):
            for begin in range(0, len(order), self.batch_size):
                chosen = order[begin : begin + self.batch_size]
                batch = self._batch(model, [sources[i] for i in chosen])
                for place, tokens in zip(chosen, batch, strict=True):
                    found[place] = LINE_END.sub(" ", self.subwords.decode(tokens))
        return [text if line else "" for line, text in zip(lines, found, strict=True)]

    def stream(self, model: nn.Module, lines: Iterable[str]) -> Iterator[str]:
        """Translate lines in order, reading a few batches ahead. Errors as in `all`."""
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
        limits = [max_tokens(len(source)) for source in sources]
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
        return [row[0].tokens for row in found]

    def _generated(
        self, model: Any, ids: Tensor, mask: Tensor, limits: Sequence[int]
    ) -> Iterable[Sequence[int]]:
        """Decode by the model's own ``generate``, in which each row ends at its own limit."""
        from transformers import StoppingCriteriaList

        room = Positions.of(model).target - 1  # the start token has one
        limits = [min(limit, room) for limit in limits]
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=self.beam,
            length_penalty=self.length_penalty,
            # One more than is used: some models force an end at the last one, and only there.
            max_new_tokens=max(limits) + 1,
            stopping_criteria=StoppingCriteriaList([_ended(limits)]),
            do_sample=False,
            early_stopping=False,
        )
        return [row[: 1 + limit] for row, limit in zip(found.tolist(), limits, strict=True)]


def _ended(limits: Sequence[int]) -> Callable[[Tensor, object], Tensor]:
    """Make a stopping criterion: which hypotheses have as many tokens as their source allows. The
    hypotheses of a source are adjacent."""

    def ended(ids: Tensor, scores: object) -> Tensor:
        most = torch.tensor(limits, device=ids.device)
        return most.repeat_interleave(len(ids) // len(limits)) < ids.shape[1]

    return ended
