"""Pairs of which one sentence follows from the other, or does not, by how quantifiers carry over.

Source:
    Monotonicity as in MacCartney & Manning 2007, Natural Logic for Textual Inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embshare.tasks.text.names import NAMES
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["entailment"]

KINDS: Final = (
    ("dogs", "animals"), ("cats", "animals"), ("horses", "animals"), ("birds", "animals"),
    ("roses", "plants"), ("trees", "plants"), ("tulips", "plants"), ("doctors", "people"),
    ("sailors", "people"), ("singers", "people"), ("lawyers", "people"), ("cars", "machines"),
    ("trains", "machines"), ("clocks", "machines"),
)  # fmt: skip
"""Of things, and what they are a kind of."""
COLOURS: Final = ("old", "young", "large", "small", "quiet", "famous")
STATES: Final = (
    ("stand in the garden", "stand outside"), ("are seen in Rome", "are seen in Italy"),
    ("move very slowly", "move"), ("came this morning", "came today"),
    ("were sold in May", "were sold in spring"), ("are loved by all children", "are loved by some"),
    ("wait at the north gate", "wait at a gate"), ("vanished in June", "vanished in summer"),
)  # fmt: skip
"""What is said of them, and what follows from that."""
NAMED: Final = 0.6
"""Of the claims are about what belongs to someone of a name."""
SUBJECT: Final = {"some": 1, "all": -1, "no": -1, "not all": 1}
"""1: what holds of a kind holds of what it is a kind of; -1: the other way round."""
PREDICATE: Final = {"some": 1, "all": 1, "no": -1, "not all": -1}
UNSURE: Final = (("all", "some"), ("no", "not all"))
"""Whether the second follows depends on whether there are any such things."""


@dataclass(frozen=True)
class Claim:
    """Each of the last three is narrow (0) or wide (1)."""

    quantifier: str
    kind: tuple[str, str]
    adjective: str
    state: tuple[str, str]
    wide_kind: int
    bare: int
    wide_state: int

    def __str__(self) -> str:
        adjective = () if self.bare else (self.adjective,)
        words = (
            self.quantifier,
            *adjective,
            self.kind[self.wide_kind],
            self.state[self.wide_state],
        )
        return f"{' '.join(words)} ."


def entailment(rng: PortableRandom) -> tuple[tuple[str, ...], int]:
    """Two sentences, and 0 if the second follows from the first, 1 if it does not."""
    follows = rng.chance(0.5)
    while True:
        premise, hypothesis = _claims(rng)
        quantifiers = (premise.quantifier, hypothesis.quantifier)
        if str(premise) == str(hypothesis) or quantifiers in UNSURE:
            continue
        if _follows(premise, hypothesis) == follows:
            return (str(premise), str(hypothesis)), int(not follows)


def _claims(rng: PortableRandom) -> tuple[Claim, Claim]:
    quantifier, adjective = rng.pick(tuple(SUBJECT)), rng.pick(COLOURS)
    kind, state = rng.pick(KINDS), rng.pick(STATES)
    if rng.chance(NAMED):
        state = (f"belong to {rng.pick(NAMES)}", "belong to someone")
    widths = [(rng.below(2), rng.below(2)) for _ in range(3)]
    other = quantifier if rng.chance(0.85) else rng.pick(tuple(SUBJECT))
    first, second = zip(*widths, strict=True)
    return (
        Claim(quantifier, kind, adjective, state, *first),
        Claim(other, kind, adjective, state, *second),
    )


def _follows(premise: Claim, hypothesis: Claim) -> bool:
    if premise.quantifier != hypothesis.quantifier:
        return False
    subject, predicate = SUBJECT[premise.quantifier], PREDICATE[premise.quantifier]
    steps = (
        (hypothesis.wide_kind - premise.wide_kind) * subject,
        (hypothesis.bare - premise.bare) * subject,
        (hypothesis.wide_state - premise.wide_state) * predicate,
    )
    return min(steps) >= 0
