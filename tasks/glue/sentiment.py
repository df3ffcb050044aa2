"""Reviews whose last or main clause decides, with negations that turn a word around."""

from __future__ import annotations

from typing import Final

from embshare.tasks.glue.dice import Dice
from embshare.tasks.text.names import NAMES

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


def sentiment(dice: Dice) -> tuple[tuple[str, ...], int]:
    """A review, and 1 if it praises, 0 if it does not."""
    label = dice.below(2)
    first, second = dice.pick(THINGS), dice.pick(THINGS)
    shape = dice.below(4)
    if shape == 0:
        text = _clause(dice, first, label)
    elif shape == 1:
        text = f"{_clause(dice, first, label)} and {_clause(dice, second, label)}"
    elif shape == 2:
        text = f"{_clause(dice, first, 1 - label)} , but {_clause(dice, second, label)}"
    else:
        text = f"{_clause(dice, first, label)} , although {_clause(dice, second, 1 - label)}"
    where = f"in {dice.pick(NAMES)} , " if dice.chance(0.7) else ""
    return (f"{where}{text} .",), label


def _clause(dice: Dice, thing: str, good: int) -> str:
    turned = dice.chance(0.4)
    verb = dice.pick(TURNED if turned else PLAIN)
    return f"the {thing} {verb} {dice.pick(WORDS[good != turned])}"
