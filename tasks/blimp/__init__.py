"""BLiMP: which of two sentences, of which one is grammatical, a language model holds likelier."""

from embshare.tasks.blimp.pairs import BlimpDataError, Pair, read_pairs
from embshare.tasks.blimp.scores import BlimpScores, blimp_scores

__all__ = ["BlimpDataError", "BlimpScores", "Pair", "blimp_scores", "read_pairs"]
