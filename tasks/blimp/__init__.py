"""BLiMP: whether a language model holds the grammatical sentence of a pair for the likelier one."""

from embshare.tasks.blimp.data import Pair, read_pairs
from embshare.tasks.blimp.metrics import blimp_scores

__all__ = ["Pair", "blimp_scores", "read_pairs"]
