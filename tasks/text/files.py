"""Files as lines of text, whose faults have a line number."""

from __future__ import annotations

from pathlib import Path

from embshare.tasks.errors import DataError
from embshare.tasks.text.utf8 import Foreign, decoded

__all__ = ["read_lines", "read_text"]


def read_text(path: Path) -> str:
    """A file in UTF-8, without a byte order mark.

    Raises:
        DataError: it is not there, or not UTF-8; with its line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            path,
            needs="be a file",
            has=f"cannot be read ({error.strerror or error})",
            hint="Name the folder that it is in, or fetch it.",
        ) from error
    found = decoded(raw)
    if isinstance(found, Foreign):
        raise DataError(
            path,
            found.line,
            needs="be UTF-8",
            has=f"has the byte 0x{found.byte:02x} where no character can have it",
            hint=f"Convert the file, for example with `iconv -f {found.guess} -t utf-8`.",
        )
    return found.removeprefix("\ufeff")


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends.

    A line ends with ``\\n`` or ``\\r\\n`` and with nothing else: other characters that Python takes
    for line ends are inside of sentences in published sets.

    Raises:
        DataError: as `read_text`.
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
