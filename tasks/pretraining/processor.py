"""Tokenizer and models of the pretraining task, and texts whose masks they fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn

import embshare
from embshare.models.matched import Architecture, MatchedConfig, MatchedMaskedLanguageModel
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.masked_models import (
    as_masked_model,
    is_replacing,
    labelled_logits,
    score_labelled_only,
)
from embshare.tasks.pretraining.token_properties import TokenProperties
from embshare.tasks.probing import read_a_row
from embshare.tasks.text.likelihood import Values, pseudo_log_likelihoods
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["NEEDED", "PretrainingProcessor", "write_words"]

NEEDED: Final = ("pad_token", "cls_token", "sep_token", "mask_token")
"""Special tokens that rows and masks are made with."""
ENDS: Final = 2
"""Number of special tokens of a row: one at its beginning, one at its end."""


@final
@dataclass(frozen=True)
class PretrainingProcessor:
    """From text to tokens, and from settings to models.

    What is saved is a tokenizer of transformers, for ``AutoTokenizer.from_pretrained``.
    """

    config: PretrainingConfig
    tokenizer: TextTokenizer

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.tokenizer.save(folder)

    @cached_property
    def properties(self) -> TokenProperties:
        """What masking and filling need to know of each token."""
        return TokenProperties(self.tokenizer)

    @property
    def special(self) -> dict[str, int]:
        """Ids of the special tokens in `NEEDED`, as configurations of transformers name them."""
        return {f"{kind}_id": self.tokenizer.special_ids[f"{kind}_id"] for kind in NEEDED}

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Configuration of one architecture; all have the same table, head, width and budget."""
        config, special = self.config, self.special
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.tokenizer),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=special["pad_token_id"],
            bos_token_id=special["cls_token_id"],
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a model of the objective: a masked language model, or ConvBERT with its generator.

        Of transformers it is what ``AutoModelForMaskedLM`` reads; in calls with labels its head
        scores labelled positions only, where that works.

        Raises:
            ModelNotForTaskError: there is no such model, it is of another kind, its table is too
                small, or it cannot read rows of this length.
        """
        replacing = self.config.objective == "replaced"
        if replacing and is_matched(model):
            raise ModelNotForTaskError(
                model=model,
                finding="it has no generator that replaces tokens",
                hint="Choose objective='masked', or a ConvBERT.",
            )
        if not replacing and model.startswith("embshare:convbert"):
            raise ModelNotForTaskError(
                model=model,
                finding="it detects replaced tokens",
                hint="Choose objective='replaced'.",
            )
        made = build_model(
            model,
            seed=seed,
            matched=lambda name: MatchedMaskedLanguageModel(self.model_config(name)),
            auto="AutoModelForPreTraining" if replacing else "AutoModelForMaskedLM",
            vocab_size=len(self.tokenizer),
            special_tokens=self.special,
        )
        if not is_matched(model):
            self._prepare(model, made)
        return made

    def _prepare(self, name: str, model: Any) -> None:
        if (self.config.objective == "replaced") != is_replacing(model):
            raise ModelNotForTaskError(
                model=name,
                finding="it does not replace tokens itself",
                hint="Choose objective='masked', or a ConvBERT.",
            )
        self.check_reads(name, model)
        model.accepts_loss_kwargs = False  # its loss is the mean over one batch
        if not is_replacing(model):
            score_labelled_only(model)

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model reads rows of ``length`` tokens, and of ``late_length``.

        Raises:
            ModelNotForTaskError: it has too few positions.
        """
        if not is_matched(name):
            length = max(self.config.late_length or 0, self.config.length)
            ids = torch.full((1, length), int(self.properties.ordinary[0]))
            read_a_row(name, model, {"input_ids": ids})

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Yield each line with the most probable token in the place of every ``[MASK]``."""
        tokenizer, spellings = self.tokenizer, self.properties.spellings
        mask, masked = self.special["mask_token_id"], as_masked_model(model.eval())
        length = self.config.late_length or self.config.length
        for text in inputs:
            tokens, places = tokenizer.locate(text)
            masks = [places[n] for n, token in enumerate(tokens) if token == mask]
            with embshare.cached(model):
                found = _guess_masks(masked, self.properties, tokens, length=length)
            yield write_words(text, masks, [spellings[token] for token in found])

    def log_likelihoods(self, model: nn.Module, sentences: Sequence[str]) -> Values:
        """Compute the pseudo-log-likelihood of each sentence; see `SentenceScorer`."""
        special = self.special
        return pseudo_log_likelihoods(
            as_masked_model(model),
            self.tokenizer.ids(sentences, reads_special=False),
            begin=special["cls_token_id"],
            end=special["sep_token_id"],
            mask=special["mask_token_id"],
            pad=special["pad_token_id"],
            vocabulary=len(self.tokenizer),
        )


@torch.inference_mode()
def _guess_masks(
    model: nn.Module, properties: TokenProperties, tokens: Sequence[int], *, length: int
) -> list[int]:
    """The most probable token for each mask, of those that can be written into a line.

    Args:
        model: masked language model, in evaluation mode.
        properties: properties of its tokens.
        tokens: tokens of a text, without special ones at its ends. A longer text is read in
            contiguous rows, each on its own.
        length: sequence length, with the special tokens at both ends.
    Returns:
        A token for each mask, in their order.
    """
    special, device = properties.tokenizer.special_ids, next(model.parameters()).device
    begin, end = special["cls_token_id"], special["sep_token_id"]
    fitting = torch.from_numpy(properties.fitting).to(device)
    found: list[int] = []
    for first in range(0, len(tokens), length - ENDS):
        part = tokens[first : first + length - ENDS]
        ids = torch.tensor([[begin, *part, end]], device=device)
        masked = ids == special["mask_token_id"]
        if masked.any():
            labels = ids.masked_fill(~masked, IGNORED)
            output: Any = model(input_ids=ids, labels=labels)
            logits = labelled_logits(output["logits"], labels)[:, : len(fitting)]
            found += logits.masked_fill(~fitting, -torch.inf).argmax(dim=-1).tolist()
    return found


def write_words(text: str, places: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """Replace parts of a text by words.

    Args:
        text: any text.
        places: first character of each part, and the one after its last, in order; white space at
            the ends of a part stays.
        words: one for each part; the space that a word begins with is left out after white space
            and at the beginning of the text.
    """
    made, done = [""], 0
    for (begin, end), word in zip(places, words, strict=True):
        part = text[begin:end]
        begin, end = end - len(part.lstrip()), begin + len(part.rstrip())
        made.append(text[done:begin])
        before = "".join(made[-2:])
        made.append(word if before[-1:].strip() else word.removeprefix(" "))
        done = end
    return "".join([*made, text[done:]])
