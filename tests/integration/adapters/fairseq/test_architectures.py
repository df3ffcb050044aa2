"""Every text architecture that fairseq registers: shared, trained for a step, materialized."""

import copy

import pytest
import torch

import embshare
from embshare.adapters.fairseq.sharing import share
from embshare.runtime.bank import require_bank
from tests.architectures.architecture import Architecture
from tests.architectures.fairseq_models import architectures

pytestmark = [
    pytest.mark.fairseq,
    pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning"),  # toys
]

LOOKED_UP = "an embedding looks its rows up"
CANNOT = {
    "nacrf_transformer": "np.float",  # of a numpy before 1.24
    "transformer_from_pretrained_xlm": "pretrained-xlm-checkpoint",
    "transformer_lm_megatron": "megatron",
    "transformer_lm_megatron_11b": "megatron",
}
"""Architectures that do not run as they are, and a word of what fairseq says of each."""


def test_all_architectures_that_run_share_at_least_95_percent() -> None:
    found = list(architectures())
    skipped = {architecture.name: architecture.skip for architecture in found if architecture.skip}
    assert skipped.keys() <= CANNOT.keys()
    for name, reason in skipped.items():
        assert CANNOT[name] in str(reason)
    faults = {s.name: fault for s in found if not s.skip for fault in [check(s)] if fault}
    assert faults == {}
    assert len(found) - len(skipped) >= 75
    assert {"lstm", "fconv", "transformer_iwslt_de_en", "lightconv", "fconv_lm"} <= {
        architecture.name for architecture in found
    }


def check(architecture: Architecture) -> str:
    """What is wrong with one architecture, or an empty string."""
    torch.manual_seed(0)
    model = architecture.build().eval()
    share(
        model,
        embshare.ShareConfig(
            source=dict(architecture.source)
            if not isinstance(architecture.source, str)
            else architecture.source
        ),
    )
    plan = require_bank(model).plan
    derived = sum(slot.numel * len(slot.weights) for slot in plan.slots)
    dense = sum(left.numel for left in plan.left_dense if left.reason != LOOKED_UP)
    if derived < 0.95 * (derived + dense):
        return f"{derived} of {derived + dense} derived"
    before = architecture.loss(model)
    if not before.isfinite():
        return f"a loss of {before.item()}"
    plain = architecture.loss(embshare.materialize(model))
    if not torch.allclose(plain, before, rtol=1e-5, atol=0):  # weights lie in memory otherwise
        return "the plain model computes something else"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before.backward()
    if any(p.grad is None for p in require_bank(model).parameters()):
        return "a projection without gradient"
    optimizer.step()
    after = architecture.loss(model)
    if torch.equal(after, before):
        return "a step changed nothing"
    if not torch.equal(after, architecture.loss(copy.deepcopy(model))):
        return "the copy computes something else"
    return ""
