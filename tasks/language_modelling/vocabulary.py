"""From text to symbols, by words or by subwords; both learn from the training side alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from embshare.tasks.language_modelling.errors import VocabularyFileError, VocabularySizeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "EOS",
    "UNK",
    "SubwordVocabulary",
    "TrainedVocabulary",
    "Vocabulary",
    "WordVocabulary",
]

EOS: Final = "<eos>"
UNK: Final = "<unk>"
BYTES: Final = 256
WORDS: Final = "words.json"
MERGES: Final = "tokenizer.json"
BLOCK: Final = 100
"""Pieces that are encoded at once: what a tokenizer returns takes a hundred bytes a symbol, and is
made four bytes before the next block."""


class Vocabulary(Protocol):
    """What turns a text into symbols."""

    @property
    def lossless(self) -> bool:
        """Whether the text can be had back from its symbols, so that bits per byte are known."""
        ...

    @property
    def unknown(self) -> int | None:
        """The symbol of whatever it does not know; ``None`` where it knows everything."""
        ...

    @property
    def start(self) -> int:
        """The symbol in whose sight the first symbol of a text is predicted."""
        ...

    def __len__(self) -> int: ...

    def encode(self, text: str) -> Tensor:
        """The symbols of a text, ``[N]`` of int32."""
        ...

    def encode_part(self, text: str) -> Tensor:
        """The symbols of a text that goes on: without an end after its last line."""
        ...

    def decode(self, ids: Tensor) -> str:
        """The text of some symbols, ``[N]``."""
        ...

    def ends_line(self, symbol: int) -> bool:
        """Whether a line ends with this symbol."""
        ...

    def save(self, folder: Path) -> None:
        """Write a file that `load` of the same class reads."""
        ...


@final
@dataclass(frozen=True)
class WordVocabulary:
    """Words between spaces, and an end after every line, as published perplexities count them.

    Lines without words count too: they are one end each. WikiText-2 gives 33,278 symbols and
    2,088,628, 217,646 and 245,569 of them in its splits, as in the literature.
    """

    ids: dict[str, int]

    @classmethod
    def learn(cls, text: str, size: int | None = None) -> WordVocabulary:
        """The ``size`` most frequent words of a text (all by default), ``<eos>`` and ``<unk>``.

        Raises:
            VocabularySizeError: ``size`` leaves no room for a single word.
        """
        if size is not None and size < 3:
            raise VocabularySizeError(
                needs=f"at least 3, for {EOS}, {UNK} and a word", has=size, way_out="Raise it."
            )
        counts = Counter(word for line in text.split("\n") for word in line.split())
        for special in (EOS, UNK):
            counts.pop(special, None)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        words = ordered if size is None else ordered[: size - 2]
        return cls({word: index for index, word in enumerate((EOS, UNK, *words))})

    @property
    def lossless(self) -> bool:
        return False

    @property
    def unknown(self) -> int:
        return self.ids[UNK]

    @property
    def start(self) -> int:
        return self.ids[EOS]

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, text: str) -> Tensor:
        find, unknown = self.ids.get, self.unknown
        lines = text.removesuffix("\n").split("\n")
        ids = (find(word, unknown) for line in lines for word in (*line.split(), EOS))
        return torch.from_numpy(np.fromiter(ids, dtype=np.int32))

    def encode_part(self, text: str) -> Tensor:
        return self.encode(text)[:-1]

    def decode(self, ids: Tensor) -> str:
        """Words with a space between them, lines where an end stands."""
        words = {index: word for word, index in self.ids.items()}
        words[self.start] = "\n"
        return " ".join(words[index] for index in ids.tolist()).replace(" \n ", "\n")

    def ends_line(self, symbol: int) -> bool:
        return symbol == self.start

    def save(self, folder: Path) -> None:
        """As JSON, a list of the words in order."""
        words = sorted(self.ids, key=self.ids.__getitem__)
        text = json.dumps(words, ensure_ascii=False, indent=0)
        (folder / WORDS).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> WordVocabulary:
        """Read back what `save` wrote.

        Raises:
            VocabularyFileError: the file is missing or no such list.
        """
        path = folder / WORDS
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise VocabularyFileError(path=path, finding=str(error)) from error
        if not isinstance(words, list) or not {EOS, UNK} <= set(map(str, words)):
            raise VocabularyFileError(path=path, finding=f"it is no list of words with {EOS}")
        return cls({str(word): index for index, word in enumerate(words)})


@final
@dataclass(frozen=True)
class SubwordVocabulary:
    """Byte pairs, merged as often as ``size`` allows; every text can be had back from its symbols.

    Source:
        Sennrich et al. 2016; over bytes as in Radford et al. 2019.
    """

    tokenizer: Tokenizer

    @classmethod
    def learn(cls, text: str, size: int) -> SubwordVocabulary:
        """Learn merges from a text; needs the package ``tokenizers`` of the extra ``hf``.

        Raises:
            VocabularySizeError: ``size`` leaves no room for all bytes and the start symbol.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if size <= BYTES:
            raise VocabularySizeError(
                needs=f"more than {BYTES}, one for each byte and one for {EOS}",
                has=size,
                way_out="Raise it.",
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_pieces(text), trainer)
        # The special symbol is put in by us alone: a text that spells it out is ordinary text.
        tokenizer.encode_special_tokens = True
        return cls(tokenizer)

    @property
    def lossless(self) -> bool:
        return True

    @property
    def unknown(self) -> None:
        return None

    @property
    def start(self) -> int:
        index: int | None = self.tokenizer.token_to_id(EOS)
        assert index is not None, "the trainer puts its special symbols into the vocabulary"
        return index

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> Tensor:
        encode = self.tokenizer.encode_batch_fast
        return _encoded(
            text, lambda block: (part.ids for part in encode(block, add_special_tokens=False))
        )

    def encode_part(self, text: str) -> Tensor:
        return self.encode(text)

    def decode(self, ids: Tensor) -> str:
        """The text of some symbols, ``[N]``."""
        text: str = self.tokenizer.decode(ids.tolist(), skip_special_tokens=False)
        return text

    def ends_line(self, symbol: int) -> bool:
        return "\n" in self.decode(torch.tensor([symbol]))

    def save(self, folder: Path) -> None:
        """As ``tokenizer.json``, which the package ``tokenizers`` reads."""
        self.tokenizer.save(str(folder / MERGES))

    @classmethod
    def load(cls, folder: Path) -> SubwordVocabulary:
        """Read back what `save` wrote.

        Raises:
            VocabularyFileError: the file is missing or no tokenizer.
        """
        from tokenizers import Tokenizer

        path = folder / MERGES
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # what the package raises has no class of its own
            raise VocabularyFileError(path=path, finding=str(error)) from error
        tokenizer.encode_special_tokens = True
        return cls(tokenizer)


@final
@dataclass(frozen=True)
class TrainedVocabulary:
    """The tokenizer that a model of transformers comes with."""

    tokenizer: Any

    @classmethod
    def of(cls, name: str) -> TrainedVocabulary:
        """Load a tokenizer by folder or name.

        Raises:
            VocabularyFileError: there is none, or it has no symbol that a text could start with.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            raise VocabularyFileError(path=Path(name), finding=str(error)) from error
        made = cls(tokenizer)
        if made._first is None:
            finding = "it has neither a beginning of text, nor an end, nor a separator"
            raise VocabularyFileError(path=Path(name), finding=finding)
        return made

    @property
    def _first(self) -> int | None:
        kinds = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        return next((i for k in kinds if (i := getattr(self.tokenizer, k)) is not None), None)

    @property
    def lossless(self) -> bool:
        """Whether no symbol stands for what is unknown."""
        return self.unknown is None

    @property
    def unknown(self) -> int | None:
        found: int | None = self.tokenizer.unk_token_id
        return None if found == self.tokenizer.eos_token_id else found

    @property
    def start(self) -> int:
        assert self._first is not None, "`of` checks this"
        return self._first

    def __len__(self) -> int:
        return len(self.tokenizer)

    def encode(self, text: str) -> Tensor:
        return _encoded(
            text, lambda block: self.tokenizer(block, add_special_tokens=False)["input_ids"]
        )

    def encode_part(self, text: str) -> Tensor:
        return self.encode(text)

    def decode(self, ids: Tensor) -> str:
        text: str = self.tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False)
        return text

    def ends_line(self, symbol: int) -> bool:
        return "\n" in self.decode(torch.tensor([symbol]))

    def save(self, folder: Path) -> None:
        """As transformers does."""
        self.tokenizer.save_pretrained(str(folder))


def _encoded(text: str, encode: Callable[[list[str]], Iterable[Sequence[int]]]) -> Tensor:
    """The symbols of a text, ``[N]`` of int32, from what encodes some pieces of it."""
    pieces, found = _pieces(text), [np.empty(0, dtype=np.int32)]
    while block := list(islice(pieces, BLOCK)):
        found += [np.asarray(ids, dtype=np.int32) for ids in encode(block)]
    return torch.from_numpy(np.concatenate(found))


def _pieces(text: str, lines: int = 64) -> Iterator[str]:
    """A text in pieces of some lines, which keep their ends: whole, and quick to encode."""
    parts = iter(text.splitlines(keepends=True))
    while piece := "".join(islice(parts, lines)):
        yield piece
