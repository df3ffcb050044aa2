"""Symbols from a model that scores the next one: the likeliest, the best of a beam, or drawn.

All searches work on a `Scorer`, which knows the model; they know nothing but log-probabilities.
`SequenceScorer` is that of a `embshare.models.matched.MatchedSeq2Seq`, whatever its source is.

    memory = model.encode(input_ids)           # or model.encode(features=...)
    scorer = SequenceScorer(model, banned=(pad,))
    with torch.inference_mode(), embshare.cached(model):
        found = beam_search(
            scorer,
            scorer.start(memory),
            limits=[40] * len(input_ids),
            first=start_symbol,
            end=end_symbol,
            beam=Beam(width=5, length_penalty=0.6),
        )
    best = [hypotheses[0].symbols for hypotheses in found]
"""

from embshare.tasks.decoding.beam import Beam, Hypothesis, beam_search
from embshare.tasks.decoding.errors import NoFiniteScoreError
from embshare.tasks.decoding.onwards import greedy_search, sample
from embshare.tasks.decoding.scorer import Scorer, SequenceScorer, SequenceState

__all__ = [
    "Beam",
    "Hypothesis",
    "NoFiniteScoreError",
    "Scorer",
    "SequenceScorer",
    "SequenceState",
    "beam_search",
    "greedy_search",
    "sample",
]
