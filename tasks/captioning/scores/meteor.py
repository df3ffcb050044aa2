"""METEOR by its own Java program, which comes with pycocoevalcap.

Source:
    Denkowski & Lavie 2014, "Meteor Universal"; version 1.5, English, with its normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embshare.tasks.captioning.errors import ScoreError
from embshare.tasks.captioning.java import Java

__all__ = ["meteor"]

BETWEEN = " ||| "
NOTHING = "emptycaption"
"""In place of a caption without words, for which the program takes the last reference instead."""


def meteor(
    captions: Sequence[str], references: Sequence[Sequence[str]], java: Java, package: Path
) -> float:
    """METEOR of a split, from 0 to 1.

    Args:
        captions: words with spaces between them, one for each picture.
        references: likewise, one or more for each picture.
        java: how the program is run.
        package: the folder of pycocoevalcap.
    Raises:
        ScoreError: the program failed, or took too long.
    """
    jar = package / "meteor" / "meteor-1.5.jar"
    options = ["-", "-", "-stdio", "-l", "en", "-norm"]
    with java.talk(["-jar", str(jar), *options], score="meteor") as program:
        statistics: list[str] = []
        for caption, lines in zip(captions, references, strict=True):
            program.say(BETWEEN.join(("SCORE", *map(_clean, lines), _clean(caption) or NOTHING)))
            statistics.append(program.hear())
        program.say(BETWEEN.join(("EVAL", *statistics)))
        answers = [program.hear() for _ in range(len(captions) + 1)]  # of each, then of all
    try:
        return float(answers[-1])
    except ValueError as error:
        raise ScoreError(
            score="meteor",
            finding=f"its program answered {answers[-1]!r:.60}",
            way_out="Leave it out of `metrics`.",
        ) from error


def _clean(line: str) -> str:
    return " ".join(line.replace("|||", " ").split())
