"""SPICE by its own Java program, which comes with pycocoevalcap; its parser does not.

Source:
    Anderson et al. 2016, "SPICE: Semantic Propositional Image Caption Evaluation".
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from embshare.tasks.captioning.java import Java, failed

__all__ = ["read_spice", "spice"]


def spice(
    captions: Sequence[str], references: Sequence[Sequence[str]], java: Java, package: Path
) -> float:
    """The mean F-score of scene graphs, from 0 to 1; arguments and errors as for METEOR.

    Nothing is kept between calls: the program's cache is a database that later versions of Java
    refuse.
    """
    rows = [
        {"image_id": index, "test": caption, "refs": list(lines)}
        for index, (caption, lines) in enumerate(zip(captions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch, "captions.json"), Path(scratch, "scores.json")
        given.write_text(json.dumps(rows), encoding="utf-8")
        jar = package / "spice" / "spice-1.0.jar"
        java.run(["-jar", str(jar), str(given), "-out", str(found), "-silent"], "", score="spice")
        if not found.is_file():
            raise failed("spice", b"it wrote no scores")
        return read_spice(found.read_text(encoding="utf-8"))


def read_spice(text: str) -> float:
    """The mean of what the program wrote; a picture without a score counts in no mean."""
    scores = [row["scores"]["All"]["f"] for row in json.loads(text)]
    known = [float(score) for score in scores if score is not None and math.isfinite(score)]
    return sum(known) / len(known) if known else 0.0
