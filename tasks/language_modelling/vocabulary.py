"""From text to symbols, by words or by subwords; both learn from the training side alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, final

import torch
from torch import Tensor

from embshare.tasks.language_modelling.errors import VocabularySizeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["EOS", "UNK", "SubwordVocabulary", "Vocabulary", "WordVocabulary"]

EOS: Final = "<eos>"
UNK: Final = "<unk>"
BYTES: Final = 256


class Vocabulary(Protocol):
    """What turns a text into symbols."""

    @property
    def lossless(self) -> bool:
        """Whether the text can be had back from its symbols, so that bits per byte are known."""
        ...

    @property
    def start(self) -> int:
        """The symbol in whose sight the first symbol of a text is predicted."""
        ...

    def __len__(self) -> int: ...

    def encode(self, text: str) -> Tensor:
        """The symbols of a text, ``[N]`` of int32."""
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
    def start(self) -> int:
        return self.ids[EOS]

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, text: str) -> Tensor:
        unknown = self.ids[UNK]
        find = self.ids.get
        lines = text.removesuffix("\n").split("\n")
        return torch.tensor(
            [find(word, unknown) for line in lines for word in (*line.split(), EOS)],
            dtype=torch.int32,
        )


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
    def start(self) -> int:
        index: int | None = self.tokenizer.token_to_id(EOS)
        assert index is not None, "the trainer puts its special symbols into the vocabulary"
        return index

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> Tensor:
        encoded = self.tokenizer.encode_batch_fast(list(_pieces(text)), add_special_tokens=False)
        return torch.cat([torch.tensor(piece.ids, dtype=torch.int32) for piece in encoded])

    def decode(self, ids: Tensor) -> str:
        """The text of some symbols, ``[N]``."""
        text: str = self.tokenizer.decode(ids.tolist(), skip_special_tokens=False)
        return text


def _pieces(text: str, lines: int = 64) -> Iterator[str]:
    """A text in pieces of some lines, which keep their ends: whole, and quick to encode."""
    parts = iter(text.splitlines(keepends=True))
    while piece := "".join(islice(parts, lines)):
        yield piece
