"""From text to tokens and back: one class over transformers' tokenizers, learned or loaded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

import numpy as np
import torch
from torch import Tensor

from embshare.tasks.cache import hash_texts, kept, kept_tensors
from embshare.tasks.text.errors import TokenizerError, VocabularySizeError

__all__ = ["BERT", "SMALLEST", "Kind", "TextTokenizer", "second_sentence", "text_pieces"]

Kind = Literal["bpe", "wordpiece", "words"]

BERT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
)
"""Special tokens of encoders, as transformers names them; the first rows of a table."""
KINDS: Final = tuple(f"{kind}_token_id" for kind in "pad unk bos eos cls sep mask".split())
BYTES: Final = 256
SMALLEST: Final = BYTES + len(BERT)
"""Smallest size of a BPE vocabulary with the special tokens of encoders: it has every byte."""
COVERAGE: Final = 0.9995
"""Fraction of a text whose characters a WordPiece vocabulary has, as in SentencePiece."""
BLOCK: Final = 100
"""Pieces of a long text that are encoded at once. What a tokenizer returns takes a hundred bytes a
token; four bytes of them are kept before the next block."""


@final
@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer of transformers, and what the tasks ask of it."""

    fast: Any
    """The tokenizer itself; a slow one only where `load` was told to accept it."""

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        size: int | None,
        *,
        kind: Kind = "bpe",
        special: Mapping[str, str] = BERT,
        lowercase: bool = True,
        prefix_space: bool = True,
        split_digits: bool = False,
        min_count: int = 1,
        max_length: int = 2**30,
        reads_special: bool = False,
    ) -> TextTokenizer:
        """Learn a vocabulary, or find it in the cache; the same texts give the same one every time.

        Args:
            texts: the training set, which is read several times; an iterator is listed first.
            size: maximum number of tokens; ``None``, of ``words`` alone, keeps all.
            kind: byte-level BPE (Sennrich et al. 2016, Radford et al. 2019), WordPiece, or whole
                words between white space with ``eos_token`` at the end of every line.
            special: special tokens by their names in transformers, in the order of their ids. With
                ``cls_token`` and ``sep_token``, sentences are framed as in BERT.
            lowercase: lowercase the text; ``wordpiece`` strips accents too.
            prefix_space: give the first word of a text the space that other words have (BPE).
            split_digits: make every digit a token (BPE).
            min_count: leave out rarer words (words).
            max_length: ``model_max_length``, for users of the saved tokenizer.
            reads_special: whether a text that spells out a special token means it; if not, it is
                ordinary text.
        Raises:
            VocabularySizeError: the size leaves no room for the smallest vocabulary.
        """
        from tokenizers import Tokenizer

        again = list(texts) if isinstance(texts, Iterator) else texts

        def learn() -> Any:
            if kind == "words":
                return _learn_words(again, size, special, min_count=min_count)
            assert size is not None, "only words are bounded by the text itself"
            if kind == "wordpiece":
                return _learn_wordpiece(again, size, special, lowercase=lowercase)
            made = _bpe(lowercase, prefix_space=prefix_space, split_digits=split_digits)
            _train_bpe(made, again, size, special, prefix_space=prefix_space)
            return made

        settings = (size, kind, [*special.items()], lowercase, prefix_space, split_digits)
        made = kept(
            "vocabularies",
            (hash_texts(again), settings, min_count),
            learn,
            dump=lambda made: made.to_str().encode(),
            load=lambda raw: Tokenizer.from_str(raw.decode()),
        )
        wrapped = _wrap(made, special, max_length=max_length, reads_special=reads_special)
        return cls(wrapped)

    @classmethod
    def load(
        cls, name: str, *, needs: Sequence[str] = ("pad_token",), slow: bool = False
    ) -> TextTokenizer:
        """Load a tokenizer by folder or name.

        Args:
            name: folder that `save` or transformers wrote, or a name of the hub.
            needs: special tokens that it must have.
            slow: accept one without a fast version.
        Raises:
            TokenizerError: there is none, it is a slow one, or it lacks a special token.
        """
        from transformers import AutoTokenizer

        wanted = ", ".join(needs)
        try:
            found = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # those of transformers and tokenizers have no class in common
            lines = str(error).splitlines() or [type(error).__name__]
            finding = f"cannot be loaded ({lines[0].rstrip('.')})"
            raise TokenizerError(name=name, needs=wanted, finding=finding) from error
        if not slow and not getattr(found, "is_fast", False):
            raise TokenizerError(name=name, needs=wanted, finding="has no fast version")
        if missing := [kind for kind in needs if getattr(found, kind) is None]:
            finding = f"has no {', '.join(missing)}"
            raise TokenizerError(name=name, needs=wanted, finding=finding)
        return cls(found)

    @classmethod
    def from_file(cls, path: Path, special: Mapping[str, str]) -> TextTokenizer:
        """Read what earlier versions saved: a file of the package ``tokenizers``, or a word list.

        Args:
            path: ``tokenizer.json`` or the like; or a JSON list of words in the order of their ids.
            special: special tokens, as in `learn`.
        Raises:
            TokenizerError: the file is missing, or neither of the two.
        """
        from tokenizers import Tokenizer

        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith("["):
                made = _word_level(_word_list(text, special), special)
            else:
                made = Tokenizer.from_str(text)
        except Exception as error:  # errors of the package have no common class
            finding = f"cannot be read ({error})"
            raise TokenizerError(name=str(path), needs="", finding=finding) from error
        return cls(_wrap(made, special))

    def save(self, folder: Path) -> None:
        """Write the files of transformers, for `load` and ``AutoTokenizer.from_pretrained``."""
        self.fast.save_pretrained(str(folder))

    def __len__(self) -> int:
        return len(self.fast)

    @property
    def pad(self) -> int:
        """The padding token."""
        return int(self.fast.pad_token_id)

    @property
    def start(self) -> int:
        """The first token of an encoder's rows; padding where the tokenizer has none."""
        return self.special_ids.get("cls_token_id", self.pad)

    @property
    def text_start(self) -> int | None:
        """The token before the first token of a text, for models that predict the next one."""
        kinds = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        return next((self.special_ids[kind] for kind in kinds if kind in self.special_ids), None)

    @property
    def unknown(self) -> int | None:
        """The token of what the vocabulary lacks; ``None`` where it can spell every text."""
        found = self.special_ids.get("unk_token_id")
        return None if found == self.special_ids.get("eos_token_id") else found  # as in GPT-2

    @property
    def knows_kinds(self) -> bool:
        """Whether its models take ``token_type_ids``, which tell two sentences apart."""
        return "token_type_ids" in self.fast.model_input_names

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """Ids of the special tokens that it has, as configurations of transformers name them."""
        found = {kind: getattr(self.fast, kind) for kind in KINDS}
        return {kind: int(number) for kind, number in found.items() if number is not None}

    @cached_property
    def word_level(self) -> bool:
        """Whether it has whole words, and ends every line with ``eos_token``."""
        return self.ids(["\n"]) == [[self.special_ids.get("eos_token_id")]]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the vocabulary and of all that turns text into tokens."""
        return sha256(self.fast.backend_tokenizer.to_str().encode()).hexdigest()[:16]

    def encode(
        self, rows: Sequence[tuple[str, ...]], *, length: int, kinds: bool
    ) -> list[dict[str, list[int]]]:
        """Inputs of an encoder for rows of one or two sentences.

        Args:
            rows: all of one sentence, or all of two.
            length: maximum number of tokens; of two sentences the longer one is cut first.
            kinds: with ``token_type_ids``, 1 in the second sentence.
        """
        if not rows:
            return []
        sentences = [list(part) for part in zip(*rows, strict=True)]
        encoded = self.fast(
            *sentences,
            truncation="longest_first" if len(sentences) == 2 else True,
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

    def ids(self, texts: Sequence[str], *, reads_special: bool | None = None) -> list[list[int]]:
        """Tokens of each text, neither framed nor truncated; on all cores.

        Args:
            texts: any.
            reads_special: as in `learn`; ``None`` is what the tokenizer was made with.
        """
        if not self.fast.is_fast:
            found: list[list[int]] = self.fast(list(texts), add_special_tokens=False)["input_ids"]
            return found
        with self._reading(reads_special) as backend:
            encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [one.ids for one in encoded]

    def locate(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a text, special ones where it spells them out, and the characters of each: the
        first, and the one after the last."""
        with self._reading(True) as backend:
            found = backend.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    @contextmanager
    def _reading(self, special: bool | None) -> Iterator[Any]:
        """The Rust tokenizer, without truncation and padding that an earlier call may have left."""
        backend = self.fast.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        before = backend.encode_special_tokens
        if special is not None:
            backend.encode_special_tokens = not special
        try:
            yield backend
        finally:
            backend.encode_special_tokens = before

    def encode_text(self, text: str) -> Tensor:
        """Tokens of a long text, ``[N]`` of int32. A word-level one ends the last line too."""
        if self.word_level and not text.endswith("\n"):
            text += "\n"
        pieces, found = text_pieces(text), [np.empty(0, dtype=np.int32)]
        while block := list(islice(pieces, BLOCK)):
            found += [np.asarray(ids, dtype=np.int32) for ids in self.ids(block)]
        return torch.from_numpy(np.concatenate(found))

    def encode_corpus(self, text: str) -> Tensor:
        """What `encode_text` makes of a text, from the cache where it has it."""
        if (about := self.about) is None:
            return self.encode_text(text)
        found = kept_tensors("texts", (*about, text), lambda: {"tokens": self.encode_text(text)})
        return found["tokens"]

    @property
    def about(self) -> tuple[object, ...] | None:
        """All that turns text into tokens, as a key of the cache; ``None`` where that is unknown:
        of a slow tokenizer, and of one whose code is not that of transformers."""
        kind = type(self.fast)
        if not self.fast.is_fast or kind.__module__.partition(".")[0] != "transformers":
            return None
        with self._reading(None) as backend:
            state = backend.to_str(), backend.encode_special_tokens, self.fast.split_special_tokens
        return (kind.__qualname__, *state, sorted(self.fast.init_kwargs.items(), key=str))

    def encode_prompt(self, text: str) -> Tensor:
        """Tokens of a text that will be continued: without the end of its last line."""
        ids = self.encode_text(text)
        return ids[:-1] if self.word_level else ids

    def decode(self, ids: Sequence[int], *, special: bool = True) -> str:
        """The text of some tokens.

        Args:
            ids: the tokens.
            special: spell out special tokens; else they are left out.
        """
        text: str = self.fast.decode(
            list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return text


def second_sentence(sequences: Sequence[int | None]) -> list[int]:
    """1 from the first token of the second sentence on, and 0 before, as BERT has it."""
    first = sequences.index(1) if 1 in sequences else len(sequences)
    return [0] * first + [1] * (len(sequences) - first)


def text_pieces(text: str, lines: int = 64) -> Iterator[str]:
    """A text in pieces of some lines with their ends: a whole one would be slow to encode."""
    parts = iter(text.splitlines(keepends=True))
    while piece := "".join(islice(parts, lines)):
        yield piece


def _wrap(
    made: Any,
    special: Mapping[str, str],
    *,
    max_length: int = 2**30,
    reads_special: bool = False,
) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    names = ["input_ids", "attention_mask"]
    if "cls_token" in special and "sep_token" in special:
        first, between = special["cls_token"], special["sep_token"]
        made.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {between}",
            pair=f"{first} $A {between} $B:1 {between}:1",
            special_tokens=[(token, made.token_to_id(token)) for token in (first, between)],
        )
        names.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        split_special_tokens=not reads_special,
        model_input_names=names,
        model_max_length=max_length,
        # transformers 4 would reset it in the tokenizer to what is said here.
        add_prefix_space=getattr(made.pre_tokenizer, "add_prefix_space", False),
        **special,
    )


def _bpe(lowercase: bool, *, prefix_space: bool, split_digits: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    made = Tokenizer(models.BPE())
    made.decoder = decoders.ByteLevel()
    steps: list[Any] = [normalizers.Lowercase()] if lowercase else []
    if split_digits:
        if prefix_space:  # behind `Digits`, ByteLevel would put a space before each digit
            steps.append(normalizers.Prepend(" "))
        digits = pre_tokenizers.Digits(individual_digits=True)
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if steps:
        made.normalizer = normalizers.Sequence(steps)
    return made


def _train_bpe(
    made: Any, texts: Iterable[str], size: int, special: Mapping[str, str], *, prefix_space: bool
) -> None:
    from tokenizers import AddedToken, pre_tokenizers, trainers

    if size < BYTES + len(special):
        named = ", ".join(special.values())
        raise VocabularySizeError(
            needs=f"at least {BYTES + len(special)}, for {BYTES} bytes and {named}", has=size
        )
    # The space before a word is a part of its token, so a mask takes it as well.
    tokens = [
        AddedToken(token, lstrip=prefix_space and kind == "mask_token", special=True)
        for kind, token in special.items()
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)


def _learn_wordpiece(
    texts: Iterable[str], size: int, special: Mapping[str, str], *, lowercase: bool
) -> Any:
    """WordPiece, the same from the same text every time.

    The trainer numbers ``##a`` and the like in the order of a hash table, which differs from run to
    run, and breaks ties by number. So it is given them in order, and a tokenizer is made anew of
    what it has learned.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    letters = _alphabet(texts, normalizer, most=size // 4)
    first = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    if len(first) > size or not letters:
        raise VocabularySizeError(
            needs=f"at least {max(8, len(first))}, for special tokens and a character", has=size
        )
    unknown = special["unk_token"]
    scratch = Tokenizer(models.WordPiece(unk_token=unknown))
    scratch.normalizer, scratch.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=first,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    scratch.train_from_iterator(texts, trainer)
    learned = scratch.get_vocab(with_added_tokens=True)
    made = Tokenizer(models.WordPiece(vocab=learned, unk_token=unknown))
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(special.values()))
    return made


def _alphabet(texts: Iterable[str], normalizer: Any, *, most: int) -> list[str]:
    """The most frequent characters that make up `COVERAGE` of a text, sorted, without spaces."""
    raw = Counter[str]()
    for text in texts:
        raw.update(text)
    counts = Counter[str]()
    for letter, count in raw.items():
        for part in normalizer.normalize_str(letter):
            if not part.isspace():
                counts[part] += count
    missing = counts.total() * COVERAGE
    kept = []
    for letter in sorted(counts, key=lambda letter: (-counts[letter], letter))[:most]:
        if missing <= 0:
            break
        kept.append(letter)
        missing -= counts[letter]
    return sorted(kept)


def _learn_words(
    texts: Iterable[str], size: int | None, special: Mapping[str, str], *, min_count: int
) -> Any:
    """Words by frequency, then by the alphabet; the special tokens before them."""
    if size is not None and size <= len(special):
        named = ", ".join(special.values())
        raise VocabularySizeError(
            needs=f"at least {len(special) + 1}, for {named} and a word", has=size
        )
    counts = Counter(word for text in texts for word in text.split())
    for token in special.values():  # WikiText has <unk> among its words
        counts.pop(token, None)
    words = [word for word, count in counts.items() if count >= min_count]
    words.sort(key=lambda word: (-counts[word], word))
    kept = words if size is None else words[: size - len(special)]
    return _word_level([*special.values(), *kept], special)


def _word_level(words: Sequence[str], special: Mapping[str, str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    end = special["eos_token"]
    ids = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(ids, unk_token=special["unk_token"]))
    made.normalizer = normalizers.Replace("\n", f" {end} ")
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    spaces = decoders.WordPiece(prefix="\n", cleanup=False)  # no word begins so: spaces everywhere
    ends = decoders.Replace(Regex(f" ?{re.escape(end)} ?"), "\n")
    made.decoder = decoders.Sequence([spaces, decoders.Fuse(), ends])
    made.add_special_tokens(list(special.values()))
    return made


def _word_list(text: str, special: Mapping[str, str]) -> list[str]:
    words = json.loads(text)
    if not all(isinstance(word, str) for word in words) or not set(special.values()) <= set(words):
        raise ValueError(f"it is no list of words with {', '.join(special.values())}")
    return list(words)
