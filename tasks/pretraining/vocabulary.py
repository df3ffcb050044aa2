"""From text to symbols: a tokenizer of transformers, learned here or brought along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from embshare.tasks.language_modelling.errors import VocabularyFileError, VocabularySizeError
from embshare.tasks.pretraining.chance import Bools, Integers
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.errors import TokenizerNotForTaskError

__all__ = ["SPECIAL", "MaskedVocabulary"]

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Padding, unknown, beginning, end, mask: the first symbols of a vocabulary learned here."""
BYTES: Final = 256
SAMPLE: Final = 2**28
"""Characters of the training side, from its beginning, that a vocabulary is learned from."""
NEEDED: Final = ("pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


@final
@dataclass(frozen=True)
class MaskedVocabulary:
    """A fast tokenizer with a padding, beginning, end and mask symbol."""

    tokenizer: Any

    @classmethod
    def learn(cls, texts: Iterable[str], config: PretrainingConfig) -> MaskedVocabulary:
        """Learn from the training side, as far as `SAMPLE` goes; needs the extra ``hf``.

        Raises:
            VocabularySizeError: the size leaves no room for the smallest vocabulary.
        """
        from transformers import PreTrainedTokenizerFast

        made = _wordpiece(config) if config.tokenization == "wordpiece" else _bytes(config)
        tokenizer, trainer = made
        tokenizer.train_from_iterator(_up_to(texts, SAMPLE), trainer)
        if (has := tokenizer.get_vocab_size()) > config.vocabulary_size:
            raise VocabularySizeError(
                needs=f"at least {has:,}, for the characters of the text",
                has=config.vocabulary_size,
                way_out="Raise it, or choose tokenization='bytes'.",
            )
        tokenizer.post_processor = _template(tokenizer)
        pad, unknown, begin, end, mask = SPECIAL
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=pad,
            unk_token=unknown,
            cls_token=begin,
            sep_token=end,
            mask_token=mask,
            model_max_length=config.late_length or config.length,
        )
        return cls(wrapped)

    @classmethod
    def of(cls, name: str) -> MaskedVocabulary:
        """Load a tokenizer by folder or name.

        Raises:
            VocabularyFileError: there is none.
            TokenizerNotForTaskError: it is slow, or lacks a symbol.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # of transformers or tokenizers, whose classes are many
            raise VocabularyFileError(path=Path(name), finding=str(error)) from error
        if not getattr(tokenizer, "is_fast", False):
            raise TokenizerNotForTaskError(
                name=name,
                finding="it has no fast version, which encodes on all cores",
                way_out="Name another, or learn a vocabulary.",
            )
        missing = [kind for kind in NEEDED if getattr(tokenizer, kind) is None]
        if missing:
            kinds = ", ".join(kind.removesuffix("_id") for kind in missing)
            raise TokenizerNotForTaskError(
                name=name,
                finding=f"it has no {kinds}",
                way_out="Name the tokenizer of an encoder, such as bert-base-uncased.",
            )
        return cls(tokenizer)

    def save(self, folder: Path) -> None:
        """As transformers does: ``AutoTokenizer.from_pretrained(folder)`` reads it."""
        self.tokenizer.save_pretrained(str(folder))

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def symbols(self) -> dict[str, int]:
        """The special symbols, as configurations of transformers name them."""
        return {kind: int(getattr(self.tokenizer, kind)) for kind in NEEDED}

    @cached_property
    def special(self) -> Bools:
        """``[V]``, true for symbols that are never predicted."""
        found = np.zeros(len(self), dtype=bool)
        found[self.tokenizer.all_special_ids] = True
        return found

    @cached_property
    def ordinary(self) -> Integers:
        """The numbers of all others."""
        return np.flatnonzero(~self.special)

    @cached_property
    def begins(self) -> Bools | None:
        """``[V]``, true for symbols with which a word begins; ``None`` where nothing tells."""
        words = self.tokenizer.convert_ids_to_tokens(list(range(len(self))))
        rest = [(word or "").startswith("##") for word in words]
        if any(rest):
            return ~np.array(rest)
        for mark in ("Ġ", "▁"):
            begins = np.array([(word or "").startswith(mark) for word in words])
            if begins.any():
                return begins | self.special
        return None

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the tokenizer does."""
        return sha256(self._backend.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str], *, specials: bool = False) -> list[list[int]]:
        """The symbols of each text, without a beginning or an end; on all cores.

        Args:
            texts: any number.
            specials: whether a text that spells out a special symbol has it; a text to learn from
                has not.
        """
        backend = self._backend
        before = backend.encode_special_tokens
        backend.encode_special_tokens = not specials
        try:
            found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        finally:
            backend.encode_special_tokens = before
        return [encoded.ids for encoded in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some symbols."""
        text: str = self.tokenizer.decode(list(ids))
        return text

    @property
    def _backend(self) -> Any:
        return self.tokenizer.backend_tokenizer


def _wordpiece(config: PretrainingConfig) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=list(SPECIAL),
        limit_alphabet=max(1, config.vocabulary_size // 2),
        show_progress=False,
    )
    return tokenizer, trainer


def _bytes(config: PretrainingConfig) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if config.vocabulary_size < BYTES + len(SPECIAL):
        raise VocabularySizeError(
            needs=f"at least {BYTES + len(SPECIAL)}, one for each byte and special symbol",
            has=config.vocabulary_size,
            way_out="Raise it.",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return tokenizer, trainer


def _template(tokenizer: Any) -> Any:
    """[CLS] one [SEP], or [CLS] one [SEP] two [SEP], as BERT has it."""
    from tokenizers import processors

    _, _, begin, end, _ = SPECIAL
    return processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B:1 {end}:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (begin, end)],
    )


def _up_to(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return
