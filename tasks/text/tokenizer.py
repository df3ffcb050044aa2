"""From text to symbols, one sentence or two: learned here, or as a trained model comes with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from embshare.tasks.text.errors import TokenizerError

__all__ = ["SMALLEST", "TextTokenizer", "second_sentence"]

SPECIAL: Final = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
SMALLEST: Final = 256 + len(SPECIAL)
"""Symbols that a learned vocabulary has at least: every byte, and what stands for no text."""


@final
@dataclass(frozen=True)
class TextTokenizer:
    """A fast tokenizer of transformers."""

    fast: Any

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> TextTokenizer:
        """Byte pairs of lower-cased text, merged until there are ``size`` symbols.

        One sentence is ``[CLS] a [SEP]`` and two are ``[CLS] a [SEP] b [SEP]``, as in BERT.
        """
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        made = Tokenizer(models.BPE())
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max(size, SMALLEST),
            special_tokens=list(SPECIAL.values()),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(texts, trainer)
        return cls(_wrapped(made))

    @classmethod
    def of(cls, name: str) -> TextTokenizer:
        """Load a tokenizer by folder or name.

        Raises:
            TokenizerError: there is none, it is not a fast one, or it has no padding.
        """
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise TokenizerError(name=name, finding=f"there is none ({lines[0]})") from error
        if not getattr(fast, "is_fast", False):
            raise TokenizerError(name=name, finding="it is not a fast one")
        if fast.pad_token_id is None:
            raise TokenizerError(name=name, finding="it has no such symbol")
        return cls(fast)

    def save(self, folder: Path) -> None:
        """As transformers does; `of` reads it back."""
        self.fast.save_pretrained(str(folder))

    def __len__(self) -> int:
        return len(self.fast)

    @property
    def pad(self) -> int:
        """The symbol that fills short rows."""
        return int(self.fast.pad_token_id)

    @property
    def start(self) -> int:
        """The symbol that a row begins with, as far as there is one."""
        found = self.fast.cls_token_id
        return self.pad if found is None else int(found)

    @property
    def knows_kinds(self) -> bool:
        """Whether its models are told which of two sentences a symbol is of."""
        return "token_type_ids" in self.fast.model_input_names

    def encode(
        self, rows: Sequence[tuple[str, ...]], *, length: int, kinds: bool
    ) -> list[dict[str, list[int]]]:
        """Rows of one or two sentences as inputs of a model.

        Args:
            rows: all of one kind.
            length: most symbols of a row; of two sentences the longer one is cut first.
            kinds: with ``token_type_ids``, 1 in the second sentence.
        """
        if not rows:
            return []
        sides = [list(side) for side in zip(*rows, strict=True)]
        encoded = self.fast(
            *sides,
            truncation="longest_first" if len(sides) == 2 else True,
            max_length=length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        found = []
        for index, ids in enumerate(encoded["input_ids"]):
            row = {"input_ids": ids}
            if kinds:
                row["token_type_ids"] = second_sentence(encoded.sequence_ids(index))
            found.append(row)
        return found


def second_sentence(sequences: Sequence[int | None]) -> list[int]:
    """1 from the first symbol of the second sentence on, and 0 before, as BERT has it."""
    first = sequences.index(1) if 1 in sequences else len(sequences)
    return [0] * first + [1] * (len(sequences) - first)


def _wrapped(made: Any) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    first, between = (SPECIAL[name] for name in ("cls_token", "sep_token"))
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {between}",
        pair=f"{first} $A {between} $B:1 {between}:1",
        special_tokens=[(token, made.token_to_id(token)) for token in (first, between)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        split_special_tokens=True,  # a text that spells one out is ordinary text
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=2**30,
        **SPECIAL,
    )
