"""All sentences of a run: from a folder, from a set by name, or from the CLDR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.errors import NamedSetError, PairsMissingError
from embshare.tasks.translation.layouts import find_split, read_split
from embshare.tasks.translation.named import (
    HUB,
    SACREBLEU,
    load_hub,
    read_hub_split,
    read_sacrebleu,
)
from embshare.tasks.translation.phrases import phrase_pairs
from embshare.tasks.translation.reading import Pairs

__all__ = ["Corpus", "load_corpus"]

PHRASES: Final = 8_000
"""Of the training side from the CLDR, unless the settings say how many."""
HELD_OUT: Final = 300
"""Of each other split."""
SEED: Final = 20240229
"""Of what the phrases mean, so that all runs have the same."""

Find: TypeAlias = Callable[[str], Pairs]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The splits that a run needs."""

    name: str
    """Where they came from, for a report."""
    splits: Mapping[str, Pairs]
    """By name; without ``train`` where it is not needed, and then without ``valid`` too, where the
    data have none."""

    def fingerprint(self) -> str:
        """The start of a SHA-256 over all splits, to tell sets of one name apart."""
        digest = sha256()
        for split, pairs in self.splits.items():
            sides = (pairs.source, pairs.target, *pairs.others)
            digest.update("\0".join((split, *("\n".join(side) for side in sides))).encode())
        return digest.hexdigest()[:16]


def load_corpus(config: TranslationConfig, *, train: bool) -> Corpus:
    """Read and check what a run needs.

    Args:
        config: names data, languages and splits.
        train: whether the training side is needed, and ``valid`` with it. Without it, ``valid`` is
            read if it is there.
    Raises:
        PairsError: it is missing, or not as it must be; with file and line.
        MissingPackageError: data by name, or the CLDR, need a package that is not installed.
    """
    name = "" if config.data is None else str(config.data)
    if train and name.startswith(SACREBLEU):
        raise PairsMissingError(
            folder=config.data,  # type: ignore[arg-type]
            split="train",
            names=["aligned files"],
            found="test sets of sacreBLEU have no training side",
        )
    needed = dict.fromkeys([*(("train", "valid") if train else ()), *config.evaluate_on])
    find = _finder(config, name, list(needed))
    langs = config.source_lang, config.target_lang
    beside = {} if "valid" in needed or name.startswith(SACREBLEU) else _if_there(find, "valid")
    splits = beside | {
        split: read_sacrebleu(split, langs) if split.startswith(SACREBLEU) else find(split)
        for split in needed
    }
    if train and config.train_pairs is not None:
        splits["train"] = _first(splits["train"], config.train_pairs)
    return Corpus(name=name or "CLDR", splits=splits)


def _if_there(find: Find, split: str) -> dict[str, Pairs]:
    """Of data that are wrong in other ways too, the splits that are needed tell."""
    try:
        return {split: find(split)}
    except (PairsMissingError, NamedSetError):
        return {}


def _finder(config: TranslationConfig, name: str, wanted: Sequence[str]) -> Find:
    """What gives a split of the data that were named."""
    langs = config.source_lang, config.target_lang
    skip = config.empty_lines == "skip"
    if config.data is None:
        return _phrases(config)
    if name.startswith(SACREBLEU):
        return lambda _: read_sacrebleu(name, langs)
    if name.startswith(HUB):
        found = load_hub(name, langs)
        return lambda split: read_hub_split(name, found, split, langs, skip_empty=skip)
    folder = config.data
    for split in wanted:  # all, before a long one is read
        if not split.startswith(SACREBLEU):
            find_split(folder, split, langs)
    return lambda split: read_split(find_split(folder, split, langs), split, skip_empty=skip)


def _phrases(config: TranslationConfig) -> Find:
    train = config.train_pairs or PHRASES
    found = phrase_pairs(
        config.source_lang, config.target_lang, count=2 * HELD_OUT + train, seed=SEED
    )
    begins = {"test": 0, "valid": HELD_OUT, "train": 2 * HELD_OUT}

    def find(split: str) -> Pairs:
        if split not in begins:
            raise PairsMissingError(
                folder=Path("CLDR"), split=split, names=sorted(begins), found="it has those alone"
            )
        begin = begins[split]
        part = found[begin : begin + (train if split == "train" else HELD_OUT)]
        return Pairs(
            origin=f"CLDR, {split}",
            source=tuple(source for source, _ in part),
            target=tuple(target for _, target in part),
        )

    return find


def _first(pairs: Pairs, count: int) -> Pairs:
    return Pairs(
        origin=pairs.origin,
        source=pairs.source[:count],
        target=pairs.target[:count],
        left_out=pairs.left_out,
    )
