"""Tokenizer, models and continuations: all that a trained model needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

import torch
from torch import nn

from embshare.caching import cached
from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.contractions import split_as_corpus
from embshare.tasks.probing import read_a_row
from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.text.likelihood import Values, causal_log_likelihoods
from embshare.tasks.text.tokenizer import TextTokenizer, text_pieces

__all__ = ["LanguageModellingProcessor", "continue_text", "learn_processor", "load_processor"]

SPECIAL: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "subword": {"eos_token": "<eos>"},
        "word": {"eos_token": "<eos>", "unk_token": "<unk>"},
    }
)
"""Level of a learned vocabulary -> its special tokens; ``<eos>`` is the start token too."""


@final
@dataclass(frozen=True)
class LanguageModellingProcessor:
    """Converts text to tokens, and builds models."""

    config: LanguageModellingConfig
    tokenizer: TextTokenizer

    def save(self, folder: Path) -> None:
        """Save the tokenizer."""
        self.tokenizer.save(folder)

    @property
    def start(self) -> int:
        """Start token, the context of the first token of a text."""
        assert self.tokenizer.text_start is not None, "a tokenizer without one is refused"
        return self.tokenizer.text_start

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Sizes of the matched model of one architecture: equal table, head, width and budget."""
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
            vocab_size=len(self.tokenizer),
            special_tokens=dict.fromkeys(("bos_token_id", "eos_token_id"), self.start),
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
        taken = {self.start, padding}  # padding has no position in some models
        ordinary = (i for i in range(len(self.tokenizer)) if i not in taken)
        token = next(ordinary, self.start)
        row = torch.full((1, self.config.length + 1), token)
        try:
            read_a_row(name, model, {"input_ids": row})
        except ModelNotForTaskError as error:
            raise ModelNotForTaskError(
                model=name,
                finding=f"{error.finding}, the {self.config.length} of `length` and one before",
                hint="Lower `length` to one less than the model has positions, or further.",
            ) from error

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Continue each text by greedy decoding, up to the end of a line."""
        for text in inputs:
            yield continue_text(
                model, self.tokenizer, text, context=self.config.length, most=self.config.length
            )

    def log_likelihoods(self, model: nn.Module, sentences: Sequence[str]) -> Values:
        """Compute the log-likelihood of each sentence; see `SentenceScorer`."""
        tokenizer = self.tokenizer
        if tokenizer.word_level:
            sentences = split_as_corpus(sentences, tokenizer.fast.get_vocab())
        ids = [tokenizer.encode_prompt(sentence).tolist() for sentence in sentences]
        return causal_log_likelihoods(model, ids, start=self.start, vocabulary=len(tokenizer))


def learn_processor(config: LanguageModellingConfig, text: str) -> LanguageModellingProcessor:
    """Learn the vocabulary from the training set, or load the tokenizer of the settings.

    Raises:
        VocabularySizeError: no vocabulary of this size can be learned.
        TokenizerError: the tokenizer cannot be loaded.
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
    """Load what `LanguageModellingProcessor.save` wrote.

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


def continue_text(
    model: nn.Module, tokenizer: TextTokenizer, text: str, *, context: int, most: int
) -> str:
    """Continue a text by greedy decoding, to the end of a line or by ``most`` tokens.

    The text itself is returned unchanged, unknown words included.

    Args:
        model: causal language model, of the matched family or of transformers.
        tokenizer: tokenizer of the model.
        text: text to continue; may be empty.
        context: maximum context of a model of transformers, in tokens.
        most: maximum number of tokens to add.
    """
    prompt, start = tokenizer.encode_prompt(text).tolist(), tokenizer.text_start
    assert start is not None, "a tokenizer without one is refused"
    added: list[int] = []
    for token in islice(_greedy_tokens(model, [start, *prompt], context=context), most):
        if token == start or "\n" in tokenizer.decode([token]):
            break
        added.append(token)
    after = _after(tokenizer, prompt, added)
    spaced = text[-1:].isspace() and tokenizer.unknown is not None
    return text + (after.lstrip(" ") if spaced else after)


def _after(tokenizer: TextTokenizer, prompt: list[int], added: list[int]) -> str:
    """Decode tokens that follow others: decoded alone, they would lack the space before them."""
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *added])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(added)


@torch.inference_mode()
def _greedy_tokens(model: nn.Module, prompt: list[int], *, context: int) -> Iterator[int]:
    """Decode greedily after a prompt, without end."""
    model.eval()
    device = next(model.parameters()).device
    ids = torch.tensor([prompt], device=device)
    with cached(model):
        if isinstance(model, MatchedLanguageModel):
            state = None
            while True:
                output = model(ids, state=state, keep_state=True)
                state, ids = output["state"], output["logits"][:, -1:].argmax(dim=-1)
                yield int(ids)
        while True:
            logits = model(input_ids=ids[:, -context:])["logits"]
            ids = torch.cat((ids, logits[:, -1:].argmax(dim=-1)), dim=1)
            yield int(ids[0, -1])
