"""What can be wrong with texts in two languages; all of it is found before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from embshare.errors import EmbshareError

__all__ = [
    "ByteOrderMarkError",
    "EmptyLineError",
    "EmptySideError",
    "MisalignedError",
    "NamedSetError",
    "NamelessLocaleError",
    "PackedFileError",
    "PairsError",
    "PairsMissingError",
    "PartnerMissingError",
    "SentenceTooLongError",
    "TextEncodingError",
    "UnknownLocaleError",
    "UnlikeFileError",
]


class PairsError(EmbshareError, ValueError):
    """Texts in two languages cannot be read or used."""


class PairsMissingError(PairsError):
    """A folder, or the files of a split in it, are not there."""

    def __init__(self, *, folder: Path, split: str, names: Sequence[str], found: str) -> None:
        super().__init__(
            f"`{folder}` must be a folder with the split `{split}` as {'; or '.join(names)}, but "
            f"{found}. Name the folder of aligned files in the layout of plain files, Multi30k or "
            "IWSLT, check `source_lang` and `target_lang`, or leave `data` out to use phrases from "
            "the CLDR."
        )
        self.folder, self.split, self.names, self.found = folder, split, tuple(names), found


class PartnerMissingError(PairsError):
    """Of several files of a split, one is there in one language alone."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(
            f"`{path}` must have a file of the same name for the other language beside it, but is "
            "alone. Fetch the other one, or remove this one."
        )
        self.path = path


class PackedFileError(PairsError):
    """A file is named as a packed one, and cannot be unpacked."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be a whole gzip file, but cannot be unpacked ({finding}). Fetch it "
            "again, or take .gz off its name where it is plain text."
        )
        self.path, self.finding = path, finding


class MisalignedError(PairsError):
    """Two files do not have as many lines as each other."""

    def __init__(self, *, source: str, target: str, lines: tuple[int, int]) -> None:
        longer = source if lines[0] > lines[1] else target
        super().__init__(
            f"`{source}` and `{target}` must have a line for each line of the other, but have "
            f"{lines[0]:,} and {lines[1]:,}: `{longer}`, line {min(lines) + 1:,}, is without a "
            "partner. Lines are lost or added somewhere before it: fetch both files again."
        )
        self.source, self.target, self.lines = source, target, lines


class EmptyLineError(PairsError):
    """A line holds no words, so that its partner is a translation of nothing."""

    def __init__(self, *, place: str, line: int, skippable: bool, others: int) -> None:
        more = f" (and {others:,} more are empty)" if others else ""
        skip = ", or leave such pairs out with `empty_lines` = skip" if skippable else ""
        super().__init__(
            f"`{place}`, line {line:,}, must hold a sentence, but is empty{more}. Remove the line "
            f"from both files{skip}."
        )
        self.place, self.line, self.others = place, line, others


class EmptySideError(PairsError):
    """A split is there, and holds nothing."""

    def __init__(self, *, place: str, split: str) -> None:
        super().__init__(
            f"`{place}` must hold the sentences of the split `{split}`, but holds none. Fetch the "
            "file again, or name another folder."
        )
        self.place, self.split = place, split


class ByteOrderMarkError(PairsError):
    """A file has a mark that belongs to no sentence."""

    def __init__(self, *, path: Path, line: int) -> None:
        super().__init__(
            f"`{path}`, line {line:,}, must begin with a sentence, but begins with a byte order "
            "mark, which would become a part of its first word. Remove it, for example with "
            "`sed -i 's/\\xef\\xbb\\xbf//'`."
        )
        self.path, self.line = path, line


class TextEncodingError(PairsError):
    """A file is not UTF-8."""

    def __init__(self, *, path: Path, line: int, byte: int, guess: str) -> None:
        super().__init__(
            f"`{path}`, line {line:,}, must be UTF-8, but has the byte 0x{byte:02x} where no "
            "character can have it. Convert the file, for example with "
            f"`iconv -f {guess} -t utf-8`."
        )
        self.path, self.line, self.byte, self.guess = path, line, byte, guess


class UnlikeFileError(PairsError):
    """A file has the name of a format and another content."""

    def __init__(self, *, path: Path, line: int, needs: str, finding: str) -> None:
        super().__init__(
            f"`{path}`, line {line:,}, must be {needs}, but {finding}. Fetch the file again."
        )
        self.path, self.line, self.needs, self.finding = path, line, needs, finding


class NamedSetError(PairsError):
    """A set that was asked for by name cannot be had."""

    def __init__(
        self, *, name: str, library: Literal["datasets", "sacrebleu"], finding: str
    ) -> None:
        super().__init__(
            f"`{name}` must be the name of a translation set that {library} can read, but "
            f"{finding}. Check the name, the languages and the network, or name a folder."
        )
        self.name, self.library, self.finding = name, library, finding


class UnknownLocaleError(PairsError):
    """The CLDR has no such language."""

    def __init__(self, *, language: str) -> None:
        super().__init__(
            f"without `data`, languages must be locales of the CLDR that Babel knows (de, pt_BR, "
            f"zh_Hant), but one is {language!r}. Name another, or a folder as `data`."
        )
        self.language = language


class NamelessLocaleError(PairsError):
    """The CLDR has too little of a language to make phrases of."""

    def __init__(self, *, languages: tuple[str, str], kind: str) -> None:
        super().__init__(
            f"without `data`, the CLDR must have names in both languages, but {languages[0]!r} and "
            f"{languages[1]!r} have the name of no {kind} in common. Name another language, or a "
            "folder as `data`."
        )
        self.languages, self.kind = languages, kind


class SentenceTooLongError(PairsError):
    """A sentence has more tokens than a model has positions."""

    def __init__(self, *, place: str, tokens: int, positions: int) -> None:
        super().__init__(
            f"{place} must have at most {positions:,} tokens, as many as the model has positions, "
            f"but has {tokens:,}. Shorten it, leave it out with a lower `max_length` if it is "
            "trained on, or take a model with more positions."
        )
        self.place, self.tokens, self.positions = place, tokens, positions
