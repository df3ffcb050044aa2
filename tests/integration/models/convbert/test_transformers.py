"""Where transformers' ConvBERT is exact it is this one, and state dicts go both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from embshare import share_from_embedding
from embshare.errors import CheckpointError
from embshare.models.convbert import (
    ConvBertConfig,
    ConvBertModel,
    from_transformers_state_dict,
    to_transformers_state_dict,
)
from tests.integration.models.convbert.examples import (
    CASES,
    EXACT,
    IDS,
    MASK,
    TYPES,
    config,
    distance,
    made,
)

NEAR = 1e-12
COMMON = (
    "vocab_size",
    "embedding_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "head_ratio",
    "conv_kernel_size",
    "num_groups",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "pad_token_id",
)


def theirs(settings: ConvBertConfig, kind: Any = transformers.ConvBertModel) -> Any:
    """Transformers' model of these settings, in double precision."""
    shared = {name: getattr(settings, name) for name in COMMON}
    return kind(transformers.ConvBertConfig(**shared)).double().eval()


@pytest.mark.parametrize("case", EXACT)
def test_states_and_gradients_are_those_of_transformers(case: str) -> None:
    ours = made(ConvBertModel, **CASES[case])
    other = theirs(ours.config)
    other.load_state_dict(to_transformers_state_dict(ours))
    states, expected = (m(IDS, MASK, TYPES).last_hidden_state for m in (ours, other))
    assert distance(states, expected.detach()) < NEAR
    weigh = torch.randn(states.shape, dtype=torch.double)
    for found in (states, expected):
        (found * weigh).sum().backward()
    gradients = {name: p.grad for name, p in other.named_parameters()}
    gradients = from_transformers_state_dict(gradients, ours.config)
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name, parameter in ours.named_parameters():
        if name == "embeddings.word_embeddings.weight":  # theirs leaves the row of padding out
            parameter.grad[0] = 0
        assert float((parameter.grad - gradients[name]).abs().max()) < 1e-10 * largest, name


@pytest.mark.parametrize("case", EXACT)
def test_state_dicts_go_there_and_back(case: str) -> None:
    ours = made(ConvBertModel, **CASES[case])
    back = from_transformers_state_dict(to_transformers_state_dict(ours), ours.config)
    given = ours.state_dict()
    assert given.keys() == back.keys()
    assert all(torch.equal(given[name], back[name]) for name in given)


def test_a_model_with_a_head_gives_its_body() -> None:
    settings = config(num_groups=2)
    other = theirs(settings, transformers.ConvBertForMaskedLM)
    ours = ConvBertModel(settings).double()
    ours.load_state_dict(from_transformers_state_dict(other.state_dict(), settings))
    expected = other.convbert(IDS, MASK, TYPES).last_hidden_state.detach()
    assert distance(ours(IDS, MASK, TYPES).last_hidden_state, expected) < NEAR


@pytest.mark.parametrize("case", sorted(set(CASES) - set(EXACT)))
def test_where_transformers_has_another_model_nothing_is_converted(case: str) -> None:
    ours = made(ConvBertModel, **CASES[case])
    with pytest.raises(CheckpointError, match="must be reduced by 2 to be the same there"):
        to_transformers_state_dict(ours)
    with pytest.raises(CheckpointError, match="It halves widths where the official code does not"):
        from_transformers_state_dict({}, ours.config)


def refused(state_dict: dict[str, Tensor], **settings: Any) -> str:
    """What is said of a state dict."""
    with pytest.raises(CheckpointError) as caught:
        from_transformers_state_dict(state_dict, config(**settings))
    return str(caught.value)


def test_a_checkpoint_of_another_size_is_refused_by_name() -> None:
    given = to_transformers_state_dict(made(ConvBertModel))
    assert refused(given, vocab_size=41) == (
        "`transformers' ConvBERT`: `embeddings.word_embeddings.weight` must be (41, 8) for these "
        "settings, but is (40, 8). Pass the settings that the checkpoint was trained with."
    )
    assert "`encoder.layer.2.attention.output.LayerNorm.bias`" in refused(
        given, num_hidden_layers=3
    )
    assert "`encoder.layer.1.attention.output.LayerNorm.bias` must be absent" in refused(
        given, num_hidden_layers=1
    )
    assert "intermediate.dense.weight` must be (2, 8, 12)" in refused(given, num_groups=2)
    assert "`other` must be absent" in refused(given | {"other": torch.zeros(1)})


def test_a_shared_model_is_not_converted_as_it_is() -> None:
    model = share_from_embedding(made(ConvBertModel))
    with pytest.raises(CheckpointError, match="materialized where it was shared"):
        to_transformers_state_dict(model)
