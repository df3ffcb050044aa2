"""Files as lines of text, whose faults have a line number."""

from __future__ import annotations

from pathlib import Path

from embshare.tasks.text.errors import BadFileError, BadLineError

__all__ = ["read_lines", "read_text"]


def read_text(path: Path) -> str:
    """A file in UTF-8, without a byte order mark.

    Raises:
        BadFileError: it is not there.
        BadLineError: it is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadFileError(
            path=path,
            needs="be a file",
            finding=f"cannot be read ({error.strerror or error})",
            way_out="Name the folder that it is in, or fetch it.",
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        guess = "utf-16" if wide else "latin1"
        raise BadLineError(
            path=path,
            line=raw.count(b"\n", 0, error.start) + 1,
            needs="be UTF-8",
            finding=f"has the byte 0x{raw[error.start]:02x} where no character can have it",
            way_out=f"Convert the file, for example with `iconv -f {guess} -t utf-8`.",
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends.

    A line ends with ``\\n`` or ``\\r\\n`` and with nothing else: other characters that Python takes
    for line ends stand inside of sentences in published sets.

    Raises:
        BadFileError: as `read_text`.
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
