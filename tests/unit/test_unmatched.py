"""Which bare parameters are taken for weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig, bare_weights

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Experts(nn.Module):
    """Fused experts beside parameters that are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.randn(3, 6, 8))
        self.state_log = nn.Parameter(torch.randn(6, 4))
        self.scale = nn.Parameter(torch.randn(6, 1, 1))
        self.relative_bias_table = nn.Parameter(torch.randn(9, 2))
        self.norm = nn.Parameter(torch.randn(6))


class Model(nn.Module):
    """Two blocks of experts, a table of positions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 6)
        self.positions = nn.Parameter(torch.randn(1, 5, 6))
        self.word_embeddings = nn.ParameterDict({"weight": torch.randn(7, 6)})
        self.blocks = nn.ModuleList(Experts() for _ in range(2))
        self.free = nn.ParameterList([torch.randn(6, 6)])
        self.head = nn.Linear(6, 4)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids) + self.positions[:, : ids.shape[1]]
        block: Any
        for block in self.blocks:
            hidden = hidden + (hidden @ block.gate_up[0]).tanh() @ block.gate_up[1].t()
            hidden = hidden + hidden @ block.state_log @ block.state_log.t()
        scores: Tensor = self.head(hidden @ self.free[0])
        return scores


def test_matrices_are_named_once_for_all_blocks_and_nothing_else() -> None:
    assert bare_weights(Model()) == ("blocks.*.gate_up", "blocks.*.state_log", "free.0")
    with torch.device("meta"):
        assert bare_weights(Model()) == ("blocks.*.gate_up", "blocks.*.state_log", "free.0")


def test_a_model_without_any_has_none() -> None:
    assert bare_weights(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4))) == ()


def test_the_patterns_make_a_plan_derive_them() -> None:
    model = Model()
    plain = embshare.plan_sharing(model)
    assert {"blocks.0.gate_up", "free.0"} <= {entry.weight for entry in plain.left_dense}
    config = ShareConfig(include=("*", *bare_weights(model)))
    shared: Any = embshare.share_from_embedding(model, config)
    names = dict(shared.named_parameters())
    assert not {"blocks.0.gate_up", "blocks.1.state_log", "free.0"} & names.keys()
    assert {"positions", "blocks.0.scale", "blocks.0.relative_bias_table"} <= names.keys()
    shared(torch.arange(10).view(2, 5)).sum().backward()
    assert shared.embed.weight.grad is not None


def test_a_table_of_few_rows_is_called_a_poor_source() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 10))
    plan = embshare.plan_sharing(model, ShareConfig(source="1.weight"))
    assert "`1.weight` is a poor source: 3,296 elements are stored in the place of 1,024" in str(
        plan
    )
    assert "it has 10 rows for 32 columns" in str(plan)
    rich = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 32))
    assert "poor" not in str(embshare.plan_sharing(rich))
