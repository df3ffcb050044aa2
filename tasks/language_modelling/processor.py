"""Tokenizer and model sizes: what a trained language model needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final, final

import torch
from torch import nn

from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.continuing import continue_text
from embshare.tasks.probing import read_a_row
from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.text.tokenizer import TextTokenizer, text_pieces

__all__ = ["LanguageModellingProcessor", "learn_processor", "load_processor"]

SPECIAL: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "subword": {"eos_token": "<eos>"},
        "word": {"eos_token": "<eos>", "unk_token": "<unk>"},
    }
)
"""Level of a learned vocabulary -> its special tokens; ``<eos>`` is before the first token too."""


@final
@dataclass(frozen=True)
class LanguageModellingProcessor:
    """From text to tokens, and from settings to models."""

    masked: ClassVar[bool] = False
    """Whether its models predict masked tokens; else the next one."""
    config: LanguageModellingConfig
    tokenizer: TextTokenizer

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.tokenizer.save(folder)

    @property
    def start(self) -> int:
        """The token before the first token of a text."""
        assert self.tokenizer.text_start is not None, "`load_processor` checks this"
        return self.tokenizer.text_start

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Configuration of one architecture; all have the same table, head, width and budget."""
        config, start = self.config, self.start
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.tokenizer),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=start,
            bos_token_id=start,
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a causal language model: matched, or one that ``AutoModelForCausalLM`` reads.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, or it has too few
                positions.
        """
        built = build_model(
            model,
            seed=seed,
            matched=lambda architecture: MatchedLanguageModel(self.model_config(architecture)),
            auto="AutoModelForCausalLM",
            vocab_size=len(self.tokenizer),
            symbols=dict.fromkeys(("bos_token_id", "eos_token_id"), self.start),
        )
        self.check_reads(model, built)
        return built

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model reads rows of ``length`` tokens and one more.

        Raises:
            ModelNotForTaskError: it has too few positions.
        """
        if is_matched(name):
            return
        padding = getattr(getattr(model, "config", None), "pad_token_id", None)
        taken = {self.start, padding}  # some models give padding no position
        ordinary = (i for i in range(len(self.tokenizer)) if i not in taken)
        token = next(ordinary, self.start)
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
        """Yield each text and its greedy continuation, up to the end of a line."""
        for text in inputs:
            yield continue_text(
                model, self.tokenizer, text, seen=self.config.length, most=self.config.length
            )


def learn_processor(config: LanguageModellingConfig, text: str) -> LanguageModellingProcessor:
    """Learn the vocabulary that the settings ask for, from the training set.

    Raises:
        VocabularySizeError: there is no vocabulary of this size.
        TokenizerError: the tokenizer that the settings name cannot be loaded.
    """
    if config.tokenizer is not None:
        return LanguageModellingProcessor(config, _load(config.tokenizer))
    learned = TextTokenizer.learn(
        text_pieces(text),
        config.vocabulary_size,
        kind="words" if config.level == "word" else "bpe",
        special=SPECIAL[config.level],
        lowercase=False,
        prefix_space=False,
    )
    return LanguageModellingProcessor(config, learned)


def load_processor(config: LanguageModellingConfig, folder: Path) -> LanguageModellingProcessor:
    """Read back what `LanguageModellingProcessor.save` wrote.

    Raises:
        TokenizerError: a file is missing or not as it was written.
    """
    words, rest = folder / "words.json", folder / "tokenizer_config.json"
    if config.tokenizer is None and (words.is_file() or not rest.is_file()):  # of earlier versions
        path = words if config.level == "word" else folder / "tokenizer.json"
        found = TextTokenizer.from_file(path, SPECIAL[config.level])
        return LanguageModellingProcessor(config, found)
    return LanguageModellingProcessor(config, _load(str(folder)))


def _load(name: str) -> TextTokenizer:
    found = TextTokenizer.load(name, needs=(), slow=True)
    if found.text_start is None:
        kinds = "a bos_token, eos_token, cls_token or sep_token"
        raise TokenizerError(name=name, needs=kinds, finding="has none of them")
    return found
