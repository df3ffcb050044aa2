"""Vocabulary, models and continuations: all that a trained model needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.vocabulary import (
    SubwordVocabulary,
    TrainedVocabulary,
    Vocabulary,
    WordVocabulary,
)
from embshare.tasks.probing import read_a_row

__all__ = ["LanguageModellingProcessor", "continue_text", "learn_processor", "load_processor"]


@final
@dataclass(frozen=True)
class LanguageModellingProcessor:
    """Converts text to tokens, and builds models."""

    config: LanguageModellingConfig
    vocabulary: Vocabulary

    def save(self, folder: Path) -> None:
        """Save the vocabulary."""
        self.vocabulary.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Sizes of the matched model of one architecture: equal table, head, width and budget."""
        config, start = self.config, self.vocabulary.start
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.vocabulary),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=start,
            bos_token_id=start,
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a causal language model; of transformers, one that ``AutoModelForCausalLM`` reads.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, or it has too few
                positions.
        """
        built = build_model(
            model,
            seed=seed,
            matched=lambda architecture: MatchedLanguageModel(self.model_config(architecture)),
            auto="AutoModelForCausalLM",
            vocab_size=len(self.vocabulary),
            special_tokens=dict.fromkeys(("bos_token_id", "eos_token_id"), self.vocabulary.start),
        )
        self.check_reads(model, built)
        return built

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model has positions for a row, which is one token longer than ``length``.

        Raises:
            ModelNotForTaskError: it has too few.
        """
        if is_matched(name):
            return
        padding = getattr(getattr(model, "config", None), "pad_token_id", None)
        taken = {self.vocabulary.start, padding}  # padding has no position in some models
        ordinary = (i for i in range(len(self.vocabulary)) if i not in taken)
        token = next(ordinary, self.vocabulary.start)
        row = torch.full((1, self.config.length + 1), token)
        try:
            read_a_row(name, model, {"input_ids": row})
        except ModelNotForTaskError as error:
            raise ModelNotForTaskError(
                model=name,
                finding=f"{error.finding}, the {self.config.length} of `length` and one before",
                way_out="Lower `length` to one less than the model has positions, or further.",
            ) from error

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Continue each text by greedy decoding, up to the end of a line."""
        for text in inputs:
            yield continue_text(
                model, self.vocabulary, text, context=self.config.length, most=self.config.length
            )


def learn_processor(config: LanguageModellingConfig, text: str) -> LanguageModellingProcessor:
    """Learn the vocabulary from the training set, or load the tokenizer of the settings.

    Raises:
        VocabularySizeError: no vocabulary of this size can be learned.
        VocabularyFileError: the tokenizer cannot be loaded.
    """
    if config.tokenizer is not None:
        return LanguageModellingProcessor(config, TrainedVocabulary.of(config.tokenizer))
    if config.level == "word":
        learned: Vocabulary = WordVocabulary.learn(text, config.vocabulary_size)
    else:
        assert config.vocabulary_size is not None, "`LanguageModellingConfig` checks this"
        learned = SubwordVocabulary.learn(text, config.vocabulary_size)
    return LanguageModellingProcessor(config, learned)


def load_processor(config: LanguageModellingConfig, folder: Path) -> LanguageModellingProcessor:
    """Load what `LanguageModellingProcessor.save` wrote.

    Raises:
        VocabularyFileError: the file is missing or not a vocabulary.
    """
    if config.tokenizer is not None:
        return LanguageModellingProcessor(config, TrainedVocabulary.of(str(folder)))
    kind = WordVocabulary if config.level == "word" else SubwordVocabulary
    return LanguageModellingProcessor(config, kind.load(folder))


def continue_text(
    model: nn.Module, vocabulary: Vocabulary, text: str, *, context: int, most: int
) -> str:
    """Continue a text by greedy decoding, to the end of a line or by ``most`` tokens.

    The text itself is returned unchanged, unknown words included.

    Args:
        model: causal language model, of the matched family or of transformers.
        vocabulary: vocabulary of the model.
        text: text to continue; may be empty.
        context: maximum context of a model of transformers, in tokens.
        most: maximum number of tokens to add.
    """
    prompt = vocabulary.encode_part(text)
    start = torch.tensor([vocabulary.start], dtype=prompt.dtype)
    added: list[int] = []
    prefix = torch.cat((start, prompt)).long()
    for token in islice(_greedy_tokens(model, prefix, context=context), most):
        if token == vocabulary.start or vocabulary.ends_line(token):
            break
        added.append(token)
    after = _after(vocabulary, prompt, torch.tensor(added, dtype=prompt.dtype))
    return text + (after.lstrip(" ") if text[-1:].isspace() and not vocabulary.lossless else after)


def _after(vocabulary: Vocabulary, prompt: Tensor, added: Tensor) -> str:
    """Decode tokens that follow others: decoded alone, they would lack the space before them."""
    before, whole = vocabulary.decode(prompt), vocabulary.decode(torch.cat((prompt, added)))
    return whole[len(before) :] if whole.startswith(before) else vocabulary.decode(added)


@torch.inference_mode()
def _greedy_tokens(model: nn.Module, prompt: Tensor, *, context: int) -> Iterator[int]:
    """Decode greedily after a prompt ``[T]``, without end."""
    model.eval()
    device = next(model.parameters()).device
    ids = prompt.to(device)[None]
    with cached(model):
        if isinstance(model, MatchedLanguageModel):
            state = None
            while True:
                output = model(ids, state=state, keep_state=True)
                state, ids = output["state"], output["logits"][:, -1:].argmax(dim=-1)
                yield int(ids)
        while True:
            logits = model(input_ids=ids[:, -context:]).logits
            ids = torch.cat((ids, logits[:, -1:].argmax(dim=-1)), dim=1)
            yield int(ids[0, -1])
