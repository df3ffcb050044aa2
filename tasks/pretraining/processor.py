"""Vocabulary and models of the pretraining task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

import embshare
from embshare.models.matched import Architecture, MatchedConfig, MatchedMaskedLanguageModel
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.filling import guess_masks, write_words
from embshare.tasks.pretraining.generator import as_masked_model, is_replacing
from embshare.tasks.pretraining.sparse import score_labelled_alone
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary
from embshare.tasks.probing import read_a_row
from embshare.tasks.text.likelihood import Values, pseudo_log_likelihoods

__all__ = ["PretrainingProcessor"]


@final
@dataclass(frozen=True)
class PretrainingProcessor:
    """From text to symbols, and from settings to models.

    What is saved is a tokenizer of transformers, for ``AutoTokenizer.from_pretrained``.
    """

    config: PretrainingConfig
    vocabulary: MaskedVocabulary

    def save(self, folder: Any) -> None:
        """Write the tokenizer."""
        self.vocabulary.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """The model of one architecture; all have the same table, head, width and budget."""
        config, symbols = self.config, self.vocabulary.symbols
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.vocabulary),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=symbols["pad_token_id"],
            bos_token_id=symbols["cls_token_id"],
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """A model of the objective: of hidden words, or ConvBERT with its generator.

        Of transformers it is what ``AutoModelForMaskedLM`` reads. Its head scores labelled
        positions alone in calls with labels, where it can.

        Raises:
            ModelNotForTaskError: there is no such model, it is of another kind, its table is too
                small, or it cannot read rows of this length.
        """
        replacing = self.config.objective == "replaced"
        if replacing and is_matched(model):
            raise ModelNotForTaskError(
                model=model,
                finding="it has no generator that replaces words",
                way_out="Choose objective='masked', or a ConvBERT.",
            )
        if not replacing and model.startswith("embshare:convbert"):
            raise ModelNotForTaskError(
                model=model,
                finding="it finds replaced words",
                way_out="Choose objective='replaced'.",
            )
        made = build_model(
            model,
            seed=seed,
            matched=lambda name: MatchedMaskedLanguageModel(self.model_config(name)),
            auto="AutoModelForPreTraining" if replacing else "AutoModelForMaskedLM",
            vocab_size=len(self.vocabulary),
            symbols=self.vocabulary.symbols,
        )
        if not is_matched(model):
            self._prepare(model, made)
        return made

    def _prepare(self, name: str, model: Any) -> None:
        if (self.config.objective == "replaced") != is_replacing(model):
            raise ModelNotForTaskError(
                model=name,
                finding="it does not replace words itself",
                way_out="Choose objective='masked', or a ConvBERT.",
            )
        self.check_reads(name, model)
        model.accepts_loss_kwargs = False  # its loss is the mean over one batch
        if not is_replacing(model):
            score_labelled_alone(model)

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Rows have ``length`` symbols, and later ``late_length``.

        Raises:
            ModelNotForTaskError: the model cannot read as many.
        """
        if not is_matched(name):
            length = max(self.config.late_length or 0, self.config.length)
            ids = torch.full((1, length), int(self.vocabulary.ordinary[0]))
            read_a_row(name, model, {"input_ids": ids})

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Each line as it is, but with the likeliest symbol in the place of every ``[MASK]``."""
        vocabulary = self.vocabulary
        mask, masked = vocabulary.symbols["mask_token_id"], as_masked_model(model.eval())
        length = self.config.late_length or self.config.length
        for text in inputs:
            symbols, places = vocabulary.locate(text)
            hidden = [places[n] for n, symbol in enumerate(symbols) if symbol == mask]
            with embshare.cached(model):
                found = guess_masks(masked, vocabulary, symbols, length=length)
            yield write_words(text, hidden, [vocabulary.spellings[symbol] for symbol in found])

    def log_likelihoods(self, model: nn.Module, sentences: Sequence[str]) -> Values:
        """Compute the pseudo-log-likelihood of each sentence; see `SentenceScorer`."""
        symbols = self.vocabulary.symbols
        return pseudo_log_likelihoods(
            as_masked_model(model),
            self.vocabulary.encode(sentences),
            begin=symbols["cls_token_id"],
            end=symbols["sep_token_id"],
            mask=symbols["mask_token_id"],
            pad=symbols["pad_token_id"],
            vocabulary=len(self.vocabulary),
        )
