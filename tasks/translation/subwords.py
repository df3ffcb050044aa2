"""The tokenizers of both languages: one for each, or the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, final

from embshare.tasks.cache import hash_texts
from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.text.tokenizer import TextTokenizer
from embshare.tasks.translation.data import PairRows, Ragged

__all__ = ["SPECIAL", "Subwords"]

SPECIAL: Final[Mapping[str, str]] = MappingProxyType(
    {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
)
"""Special tokens of learned vocabularies."""
FOLDERS: Final = ("source", "target")
JOINT: Final = "subwords.json"
SEPARATE: Final = ("subwords.source.json", "subwords.target.json")
"""Files of earlier versions."""
BLOCK: Final = 10_000
"""Sentences that are encoded at once: a large corpus as Python objects takes much memory."""


@final
@dataclass(frozen=True)
class Subwords:
    """Tokenizers of the source and of the target language."""

    source: TextTokenizer
    target: TextTokenizer
    """The same object where both languages have one vocabulary."""

    @classmethod
    def learn(
        cls, source: Sequence[str], target: Sequence[str], *, size: int, joint: bool
    ) -> Subwords:
        """Learn byte-level BPE in which every digit is a token.

        Args:
            source: sentences of one language, of the training set.
            target: sentences of the other.
            size: maximum number of tokens of each vocabulary.
            joint: learn one vocabulary for both.
        Raises:
            VocabularySizeError: the size leaves no room for all bytes.
        """
        texts = [[*source, *target]] if joint else [source, target]
        first, *second = (
            TextTokenizer.learn(part, size, special=SPECIAL, lowercase=False, split_digits=True)
            for part in texts
        )
        return cls(first, *(second or [first]))

    @classmethod
    def load(cls, folder: Path, *, joint: bool) -> Subwords:
        """Read back what `save` wrote.

        Raises:
            TokenizerError: a file is missing or no tokenizer.
        """
        if any((folder / name).is_file() for name in (JOINT, *SEPARATE)):
            files = [folder / name for name in ((JOINT,) if joint else SEPARATE)]
            first, *second = (_from_file(path) for path in files)
        else:
            folders = [folder] if joint else [folder / name for name in FOLDERS]
            first, *second = (TextTokenizer.load(str(path)) for path in folders)
        return cls(first, *(second or [first]))

    @classmethod
    def pretrained(cls, name: str) -> Subwords:
        """Load the tokenizer of a pretrained model by folder or name, for both languages.

        Raises:
            TokenizerError: there is none, it has no end or padding token, or both are the same.
        """
        needs = ("eos_token", "pad_token")
        found = TextTokenizer.load(name, needs=needs, slow=True)
        if found.fast.pad_token_id == found.fast.eos_token_id:
            raise TokenizerError(
                name=name,
                needs="a pad_token that differs from its eos_token",
                finding=f"both are {str(found.fast.eos_token)!r}: a model never writes padding, "
                "and could not end a sentence",
                hint="Give it another `pad_token` and save it, or name another tokenizer.",
            )
        return cls(found, found)

    @property
    def joint(self) -> bool:
        """Whether both languages have one vocabulary."""
        return self.source is self.target

    @property
    def pad(self) -> int:
        """The padding token of both languages."""
        return self.target.pad

    @property
    def end(self) -> int:
        """The token after every sentence."""
        return self.target.special_ids["eos_token_id"]

    @property
    def sizes(self) -> tuple[int, int]:
        """Vocabulary sizes of the source and the target language."""
        return len(self.source), len(self.target)

    def encode_source(self, lines: Iterable[str]) -> Iterator[list[int]]:
        """Tokens of sentences to translate, with the end."""
        return self._encode(self.source, lines, "text")

    def encode_target(self, lines: Iterable[str]) -> Iterator[list[int]]:
        """Tokens of translations, with the end."""
        return self._encode(self.target, lines, "text_target")

    def rows(
        self, source: Sequence[str], target: Sequence[str], *, longest: int | None
    ) -> PairRows:
        """Encode pairs, or find them in the cache.

        Args:
            source: sentences.
            target: translation of each.
            longest: maximum length in tokens, as for `PairRows`.
        """
        sides = (
            _kept("text", self.source, source, self.encode_source),
            _kept("text_target", self.target, target, self.encode_target),
        )
        return PairRows(*sides, longest=longest)

    def _encode(
        self, tokenizer: TextTokenizer, lines: Iterable[str], side: Literal["text", "text_target"]
    ) -> Iterator[list[int]]:
        """As transformers encodes them, with the end token where it puts none."""
        parts = iter(lines)
        while block := list(islice(parts, BLOCK)):
            for ids in tokenizer.fast(**{side: block})["input_ids"]:
                yield ids if ids[-1:] == [self.end] else [*ids, self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        """The sentence of some tokens of the target, with or without the end."""
        return self.target.decode(tokens, special=False).strip()

    def save(self, folder: Path) -> None:
        """Write a tokenizer of transformers, or one for each language, each in a folder."""
        if self.joint:
            self.target.save(folder)
            return
        for name, tokenizer in zip(FOLDERS, (self.source, self.target), strict=True):
            tokenizer.save(folder / name)


def _kept(
    side: str,
    tokenizer: TextTokenizer,
    lines: Sequence[str],
    encode: Callable[[Iterable[str]], Iterable[Sequence[int]]],
) -> Ragged:
    if (about := tokenizer.about) is None:
        return Ragged.of(encode(lines))
    return Ragged.kept((*about, side, hash_texts(lines)), lambda: encode(lines))


def _from_file(path: Path) -> TextTokenizer:
    """A file of earlier versions, which put the space before the first word by themselves."""
    from tokenizers import normalizers

    found = TextTokenizer.from_file(path, SPECIAL)
    found.fast.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    return found
