"""Decoding with a model that scores the next token: greedy, beam search, or sampling.

All of them use a `Scorer`, which wraps the model and returns log-probabilities. `SequenceScorer`
wraps an `embshare.models.matched.MatchedSeq2Seq`.

    memory = model.encode(input_ids)           # or model.encode(features=...)
    scorer = SequenceScorer(model, banned=(pad,))
    with torch.inference_mode(), embshare.cached(model):
        found = beam_search(
            scorer,
            scorer.start(memory),
            limits=[40] * len(input_ids),
            first=start_token,
            end=end_token,
            beam=Beam(width=5, length_penalty=0.6),
        )
    best = [hypotheses[0].tokens for hypotheses in found]
"""

from embshare.tasks.decoding.beam import Beam, Hypothesis, beam_search
from embshare.tasks.decoding.errors import NoFiniteScoreError
from embshare.tasks.decoding.greedy import greedy_search, sample
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
