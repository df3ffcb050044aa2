"""Reviews whose last or main clause decides, with negations that turn a word around."""

from __future__ import annotations

from typing import Final

from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["sentiment"]

WORDS: Final = (
    (
        "dull", "clumsy", "shallow", "tedious", "awful", "bland", "silly", "weak", "lifeless",
        "messy", "tired", "pointless", "hollow", "crude", "flat", "stale",
    ),
    (
        "clever", "moving", "gripping", "funny", "lovely", "bold", "fresh", "rich", "charming",
        "honest", "brilliant", "tender", "sharp", "warm", "witty", "vivid",
    ),
)  # fmt: skip
"""Bad ones, then good ones."""
THINGS: Final = (
    "film", "plot", "cast", "score", "script", "ending", "opening", "dialogue", "camera", "story",
    "hero", "pace", "humour", "direction",
)  # fmt: skip
PLAIN: Final = ("is", "seems", "feels", "is really", "is often", "remains")
TURNED: Final = ("is not", "is never", "is hardly", "seems far from", "is anything but")


def sentiment(rng: PortableRandom) -> tuple[tuple[str, ...], int]:
    """A review, and 1 if it praises, 0 if it does not."""
    label = rng.below(2)
    first, second = rng.pick(THINGS), rng.pick(THINGS)
    shape = rng.below(4)
    if shape == 0:
        text = _clause(rng, first, label)
    elif shape == 1:
        text = f"{_clause(rng, first, label)} and {_clause(rng, second, label)}"
    elif shape == 2:
        text = f"{_clause(rng, first, 1 - label)} , but {_clause(rng, second, label)}"
    else:
        text = f"{_clause(rng, first, label)} , although {_clause(rng, second, 1 - label)}"
    where = f"in {rng.pick(NAMES)} , " if rng.chance(0.7) else ""
    return (f"{where}{text} .",), label


def _clause(rng: PortableRandom, thing: str, good: int) -> str:
    turned = rng.chance(0.4)
    verb = rng.pick(TURNED if turned else PLAIN)
    return f"the {thing} {verb} {rng.pick(WORDS[good != turned])}"
