"""From text to symbols: a tokenizer of transformers, learned here or brought along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np

from embshare.tasks.language_modelling.errors import VocabularyFileError, VocabularySizeError
from embshare.tasks.pretraining.chance import Bools, Integers
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.errors import TokenizerNotForTaskError

__all__ = ["SPECIAL", "MaskedVocabulary"]

Texts: TypeAlias = Callable[[], Iterable[str]]

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Padding, unknown, beginning, end, mask: the first symbols of a vocabulary learned here."""
BYTES: Final = 256
SAMPLE: Final = 2**28
"""Characters of the training side, from its beginning, that a vocabulary is learned from."""
COVERAGE: Final = 0.9995
"""Part of the text whose characters are symbols; the others are unknown (as in SentencePiece)."""
BREAKS: Final = "Ċčĉ\n\r\t"
"""Line ends and tabs, as symbols of bytes spell them, and as they are."""
BLANK: Final = "▁"
"""A blank, in symbols of SentencePiece."""
WHITE: Final = f"Ġ{BLANK} {BREAKS}"
NEEDED: Final = ("pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")


@final
@dataclass(frozen=True)
class MaskedVocabulary:
    """A fast tokenizer with a padding, beginning, end and mask symbol."""

    tokenizer: Any

    @classmethod
    def learn(cls, texts: Texts, config: PretrainingConfig) -> MaskedVocabulary:
        """Learn from the training side, as far as `SAMPLE` goes; needs the extra ``hf``.

        Args:
            texts: gives them from the beginning, each time that it is called.
            config: how, and how many symbols.
        Raises:
            VocabularySizeError: the size leaves no room for the smallest vocabulary.
        """
        from transformers import PreTrainedTokenizerFast

        make = _wordpieces if config.tokenization == "wordpiece" else _bytes
        tokenizer = make(lambda: _up_to(texts(), SAMPLE), config)
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
        made = cls(tokenizer)
        made._backend.no_truncation()  # some bring a length of rows that is not the settings'
        made._backend.no_padding()
        return made

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
        """``[V]``, true for symbols with which a word begins; ``None`` where nothing tells.

        White space begins one of its own; what comes after it may as well, see `words_begin`.
        """
        if self._prefix:
            return ~np.array([word.startswith(self._prefix) for word in self._words])
        for mark in ("Ġ", BLANK):
            begins: Bools = np.array([word.startswith(mark) for word in self._words])
            if begins.any():
                white: Bools = np.array([word != "" == word.strip(WHITE) for word in self._words])
                return begins | white | self.special
        return None

    @cached_property
    def _breaks(self) -> Bools:
        """``[V]``, true for symbols that end with a white space other than the blank: the word
        behind it has no mark at its beginning. Behind a blank, a symbol of its own, its word goes
        on."""
        return np.array([word.endswith(tuple(BREAKS)) for word in self._words])

    @cached_property
    def _prefix(self) -> str:
        """How symbols begin that go on with a word; empty where the tokenizer has no such mark."""
        return getattr(self._backend.model, "continuing_subword_prefix", None) or ""

    @cached_property
    def _words(self) -> list[str]:
        words = self.tokenizer.convert_ids_to_tokens(list(range(len(self))))
        return [word or "" for word in words]

    def words_begin(self, ids: Integers) -> Bools:
        """``[B, T]``, true where a word begins in rows ``[B, T]`` of symbols, which tell where."""
        assert self.begins is not None, "`Pretraining.prepare` checks this"
        found: Bools = self.begins[ids]
        found[:, 1:] |= self._breaks[ids[:, :-1]]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the tokenizer does."""
        return sha256(self._backend.to_str().encode()).hexdigest()[:16]

    @cached_property
    def spellings(self) -> list[str]:
        """Of each symbol, what it stands for in the midst of a text: with the blank before a word
        where the symbol has it, without the mark of one that goes on with a word."""
        alone = [[number] for number in range(len(self))]
        texts = self._backend.decode_batch(alone, skip_special_tokens=False)
        return [self._spelling(word, text) for word, text in zip(self._words, texts, strict=True)]

    def _spelling(self, word: str, text: str) -> str:
        if self._prefix:
            return text.removeprefix(self._prefix)
        return word.replace(BLANK, " ") if word.startswith(BLANK) else text

    @cached_property
    def fitting(self) -> Bools:
        """``[V]``, true for symbols that can be written into a line: neither special ones nor line
        ends nor a part of a character."""
        lines = (text.splitlines() == [text] and "\ufffd" not in text for text in self.spellings)
        return np.fromiter(lines, dtype=bool) & ~self.special

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The symbols of each text, without a beginning or an end; on all cores.

        A text that spells out a special symbol has none: it is a text to learn from.
        """
        with self._reading(specials=False) as backend:
            found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoded.ids for encoded in found]

    def locate(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The symbols of a text, special ones where it spells them out, and from which character up
        to which each of them stands; without a beginning or an end."""
        with self._reading(specials=True) as backend:
            found = backend.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    @contextmanager
    def _reading(self, *, specials: bool) -> Iterator[Any]:
        """The tokenizer while it reads special symbols that a text spells out, or does not."""
        backend = self._backend
        before = backend.encode_special_tokens
        backend.encode_special_tokens = not specials
        try:
            yield backend
        finally:
            backend.encode_special_tokens = before

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some symbols."""
        text: str = self.tokenizer.decode(list(ids))
        return text

    @property
    def _backend(self) -> Any:
        return self.tokenizer.backend_tokenizer


def _wordpieces(texts: Texts, config: PretrainingConfig) -> Any:
    """Word pieces, the same from the same text every time.

    The trainer numbers ``##a`` and the like as it meets them in a hash table, and breaks ties by
    number. So they are given to it in order, and a tokenizer is made anew of what it has learned.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    letters = _alphabet(texts(), normalizer, most=config.vocabulary_size // 4)
    first = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    if len(first) > config.vocabulary_size or not letters:
        raise VocabularySizeError(
            needs=f"at least {max(8, len(first))}, for special symbols and a character",
            has=config.vocabulary_size,
            way_out="Raise it.",
        )
    scratch = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    scratch.normalizer, scratch.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=first,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    scratch.train_from_iterator(texts(), trainer)
    learned = scratch.get_vocab(with_added_tokens=True)
    tokenizer = Tokenizer(models.WordPiece(vocab=learned, unk_token=SPECIAL[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _alphabet(texts: Iterable[str], normalizer: Any, *, most: int) -> list[str]:
    """The most frequent characters that make up `COVERAGE` of a text, in order, without spaces."""
    raw = Counter[str]()
    for text in texts:
        raw.update(text)
    counts = Counter[str]()
    for letter, count in raw.items():
        for part in normalizer.normalize_str(letter):
            counts[part] += count
    for letter in list(counts):
        if letter.isspace():
            del counts[letter]
    missing = counts.total() * COVERAGE
    kept = []
    for letter in sorted(counts, key=lambda letter: (-counts[letter], letter))[:most]:
        if missing <= 0:
            break
        kept.append(letter)
        missing -= counts[letter]
    return sorted(kept)


def _bytes(texts: Texts, config: PretrainingConfig) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    if config.vocabulary_size < BYTES + len(SPECIAL):
        raise VocabularySizeError(
            needs=f"at least {BYTES + len(SPECIAL)}, one for each byte and special symbol",
            has=config.vocabulary_size,
            way_out="Raise it.",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    *others, mask = SPECIAL  # the blank before a word is a part of its symbol: a mask takes it too
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=[*others, AddedToken(mask, lstrip=True, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


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
