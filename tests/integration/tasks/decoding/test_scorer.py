"""The matched encoder-decoder as a scorer: with its state, and without."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import embshare
from embshare.models.matched import ARCHITECTURES, Architecture, MatchedConfig, MatchedSeq2Seq
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search

PAD, FIRST, END = 0, 1, 2


class Prefix(NamedTuple):
    """State of a scorer that keeps no hidden state."""

    source: Tensor
    read: Tensor


class Stateless:
    """Reads source and prefix again for every token."""

    def __init__(self, model: MatchedSeq2Seq) -> None:
        self._model = model

    def step(self, tokens: Tensor, state: Prefix) -> tuple[Tensor, Prefix]:
        read = torch.cat((state.read, tokens[:, None]), dim=1)
        logits = self._model(state.source, decoder_input_ids=read)["logits"][:, -1]
        logits[:, [PAD, FIRST]] = -torch.inf
        return logits.log_softmax(dim=-1), Prefix(state.source, read)

    def reorder(self, state: Prefix, rows: Tensor) -> Prefix:
        return Prefix(state.source[rows], state.read[rows])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_the_state_changes_nothing(architecture: Architecture, shared: bool) -> None:
    with torch.inference_mode(False):
        model = MatchedSeq2Seq(
            MatchedConfig(architecture=architecture, vocab_size=31, width=32, layers=2, heads=2)
        ).eval()
        torch.nn.init.normal_(model.embedding.weight, std=0.6)  # decided enough not to tie
        if shared:
            embshare.share_from_embedding(model)
    source = torch.randint(3, 31, (5, 7))
    source[2, 4:] = source[4, 2:] = PAD
    limits, beam = [9, 4, 12, 9, 7], Beam(width=4, length_penalty=0.7, keep=2)
    with embshare.cached(model):
        scorer = SequenceScorer(model, banned=(PAD, FIRST))
        start = scorer.start(model.encode(source))
        found = beam_search(scorer, start, limits=limits, first=FIRST, end=END, beam=beam)
        anew, nothing = Stateless(model), torch.empty(5, 0, dtype=torch.long)
        again = beam_search(
            anew, Prefix(source, nothing), limits=limits, first=FIRST, end=END, beam=beam
        )
        greedy = greedy_search(scorer, start, limits=limits, first=FIRST, end=END)
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in again]
    scores = [h.log_prob for row in found for h in row]
    assert scores == pytest.approx([h.log_prob for row in again for h in row], rel=1e-4)
    assert any(len(tokens) > 2 for tokens in greedy)


def test_banned_tokens_have_no_probability() -> None:
    model = MatchedSeq2Seq(MatchedConfig(architecture="conv", vocab_size=9, width=16)).eval()
    scorer = SequenceScorer(model, banned=(PAD, FIRST))
    with torch.inference_mode():
        log_probs, _ = scorer.step(
            torch.tensor([FIRST]), scorer.start(model.encode(torch.tensor([[3, 4]])))
        )
    assert log_probs.exp().sum().item() == pytest.approx(1)
    assert log_probs[0, [PAD, FIRST]].tolist() == [-torch.inf, -torch.inf]
