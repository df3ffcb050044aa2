"""The two formats of IWSLT's TED talks: sentences in XML, and a training side between tags."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Final

from embshare.tasks.translation.errors import UnlikeFileError
from embshare.tasks.translation.reading import Numbered, numbered_lines

__all__ = ["read_segments", "read_tagged"]

OPENING: Final = re.compile(r"<seg\b", re.IGNORECASE)
SEGMENT: Final = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)
TAG: Final = re.compile(r"</?([a-z]+)\b[^>]*>", re.IGNORECASE)
SENTENCES: Final = ("title", "description")
"""Tags whose content is translated; what stands in others describes the talk."""


def read_segments(path: Path) -> list[Numbered]:
    """The sentences of ``IWSLT14.TED.dev2010.de-en.de.xml``, each with its line.

    Read line by line: the published files have bare ampersands, which are no XML. A line may hold
    several segments.

    Raises:
        UnlikeFileError: no line holds a segment, or one begins and does not end.
    """
    found: list[Numbered] = []
    lines = numbered_lines(path)
    for number, line in lines:
        segments = SEGMENT.findall(line)
        found += [(number, html.unescape(text).strip()) for text in segments]
        if len(OPENING.findall(line)) > len(segments):
            raise UnlikeFileError(
                path=path,
                line=number,
                needs="segments that end on their line, <seg id=...>...</seg>",
                finding="the segment does not end",
            )
    if not found:
        finding = "the file has no segments"
        raise UnlikeFileError(
            path=path, line=1, needs="the beginning of a file with <seg> lines", finding=finding
        )
    return found


def read_tagged(path: Path) -> list[Numbered]:
    """The sentences of ``train.tags.de-en.de``, titles and descriptions among them."""
    found: list[Numbered] = []
    for number, line in numbered_lines(path):
        tag = TAG.match(line)
        if tag is None:
            found.append((number, line))
        elif tag[1].lower() in SENTENCES:
            found.append((number, TAG.sub("", line).strip()))
    return found
