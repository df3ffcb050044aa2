"""From sentences to symbols and back; learned from the training side alone, or a model's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from embshare.tasks.translation.errors import (
    SubwordFileError,
    SubwordSizeError,
    SubwordSymbolsError,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["END", "PAD", "START", "LearnedSubwords", "Subwords", "Symbols", "TrainedSubwords"]

Symbols: TypeAlias = list[int]
PAD, START, END = 0, 1, 2
SPECIAL: Final = ("<pad>", "<s>", "</s>")
BYTES: Final = 256
JOINT: Final = "subwords.json"
SEPARATE: Final = ("subwords.source.json", "subwords.target.json")
BLOCK: Final = 10_000  # lines that are encoded at once: a large corpus as objects takes much memory


class Subwords(Protocol):
    """What turns sentences of both languages into symbols."""

    @property
    def pad(self) -> int:
        """The symbol that fills rows, the same for both languages."""
        ...

    @property
    def end(self) -> int:
        """The symbol behind every sentence."""
        ...

    @property
    def sizes(self) -> tuple[int, int]:
        """Symbols of the source and of the target language."""
        ...

    def encode_source(self, lines: Iterable[str]) -> Iterator[Symbols]:
        """The symbols of each sentence to translate, with the end."""
        ...

    def encode_target(self, lines: Iterable[str]) -> Iterator[Symbols]:
        """The symbols of each translation, with the end."""
        ...

    def decode(self, symbols: Sequence[int]) -> str:
        """The sentence of some symbols of the target, with or without the end."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load` of the same class reads."""
        ...


@final
@dataclass(frozen=True)
class LearnedSubwords:
    """Byte pairs of both languages together, or of each alone; digits stand for themselves.

    Every sentence can be had back from its symbols, but for spaces at its ends.

    Source:
        Sennrich et al. 2016; over bytes as in Radford et al. 2019.
    """

    source: Tokenizer
    target: Tokenizer
    """The same object where both languages have one vocabulary."""

    @classmethod
    def learn(
        cls, source: Sequence[str], target: Sequence[str], *, size: int, joint: bool
    ) -> LearnedSubwords:
        """Learn merges; needs the package ``tokenizers`` of the extra ``hf``.

        Args:
            source: sentences of one language, of the training side.
            target: of the other.
            size: symbols of each vocabulary, at most: a small text gives fewer.
            joint: one vocabulary for both.
        Raises:
            SubwordSizeError: ``size`` leaves no room for all bytes.
        """
        if size < BYTES + len(SPECIAL):
            raise SubwordSizeError(needs=BYTES + len(SPECIAL), has=size)
        if joint:
            both = _learn([*source, *target], size)
            return cls(both, both)
        return cls(_learn(source, size), _learn(target, size))

    @property
    def joint(self) -> bool:
        """Whether both languages have one vocabulary."""
        return self.source is self.target

    @property
    def pad(self) -> int:
        return PAD

    @property
    def end(self) -> int:
        return END

    @property
    def sizes(self) -> tuple[int, int]:
        return int(self.source.get_vocab_size()), int(self.target.get_vocab_size())

    def encode_source(self, lines: Iterable[str]) -> Iterator[Symbols]:
        return _encode(self.source, lines)

    def encode_target(self, lines: Iterable[str]) -> Iterator[Symbols]:
        return _encode(self.target, lines)

    def decode(self, symbols: Sequence[int]) -> str:
        plain = [symbol for symbol in symbols if symbol >= len(SPECIAL)]
        return str(self.target.decode(plain, skip_special_tokens=False)).strip()

    def save(self, folder: Path) -> None:
        """As files that the package ``tokenizers`` reads: one, or one for each language."""
        names = (JOINT,) if self.joint else SEPARATE
        for name, tokenizer in zip(names, (self.source, self.target), strict=False):
            tokenizer.save(str(folder / name))

    @classmethod
    def load(cls, folder: Path, *, joint: bool) -> LearnedSubwords:
        """Read back what `save` wrote.

        Raises:
            SubwordFileError: a file is missing or no tokenizer.
        """
        if joint:
            both = _load(folder / JOINT)
            return cls(both, both)
        source, target = (_load(folder / name) for name in SEPARATE)
        return cls(source, target)


def _learn(lines: Iterable[str], size: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f" {line}" for line in lines), trainer)
    # Special symbols are put in by us alone: a text that spells one out is ordinary text.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _encode(tokenizer: Tokenizer, lines: Iterable[str]) -> Iterator[Symbols]:
    """A space before the first word, so that it is the same symbol as elsewhere."""
    parts = (f" {line}" for line in lines)
    while block := list(islice(parts, BLOCK)):
        for encoded in tokenizer.encode_batch_fast(block, add_special_tokens=False):
            yield [*encoded.ids, END]


def _load(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # what the package raises has no class of its own
        raise SubwordFileError(path=str(path), finding=str(error)) from error
    tokenizer.encode_special_tokens = True
    return tokenizer


@final
@dataclass(frozen=True)
class TrainedSubwords:
    """The tokenizer that a model of transformers comes with."""

    tokenizer: Any

    @classmethod
    def of(cls, name: str) -> TrainedSubwords:
        """Load a tokenizer by folder or name.

        Raises:
            SubwordFileError: there is none, or it has no symbol for the end or for padding.
            SubwordSymbolsError: the two are the same.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise SubwordFileError(path=name, finding=str(error)) from error
        for kind in ("eos_token_id", "pad_token_id"):
            if getattr(tokenizer, kind) is None:
                raise SubwordFileError(path=name, finding=f"it has no `{kind}`")
        if tokenizer.pad_token_id == tokenizer.eos_token_id:
            raise SubwordSymbolsError(name=name, token=str(tokenizer.eos_token))
        return cls(tokenizer)

    @property
    def pad(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.tokenizer), len(self.tokenizer)

    def encode_source(self, lines: Iterable[str]) -> Iterator[Symbols]:
        return self._encode(lines, "text")

    def encode_target(self, lines: Iterable[str]) -> Iterator[Symbols]:
        return self._encode(lines, "text_target")

    def _encode(self, lines: Iterable[str], side: str) -> Iterator[Symbols]:
        """With the special symbols of the tokenizer, and the end where it puts in none."""
        parts = iter(lines)
        while block := list(islice(parts, BLOCK)):
            for ids in self.tokenizer(**{side: block})["input_ids"]:
                yield ids if ids[-1:] == [self.end] else [*ids, self.end]

    def decode(self, symbols: Sequence[int]) -> str:
        text = self.tokenizer.decode(
            list(symbols), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text).strip()

    def save(self, folder: Path) -> None:
        """As transformers does."""
        self.tokenizer.save_pretrained(str(folder))
