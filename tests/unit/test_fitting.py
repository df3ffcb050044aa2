"""`init="svd"`: the nearest shared model there is; the dense one again where nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import InvalidValueError
from embshare.start.activations import inputs_of_weights
from tests._support.layer_examples import EXAMPLES, MODELS, Example

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Stack(nn.Module):
    """A table, two linear layers of one role, and a head tied to the table."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, rows, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        scores: Tensor = self.head(hidden)
        return scores


def stack(rows: int, width: int) -> Stack:
    torch.manual_seed(0)
    return Stack(rows, width).double()


def seeded(example: Example) -> nn.Module:
    torch.manual_seed(0)
    return example.build().double().eval()


def errors(dense: nn.Module, shared: nn.Module) -> dict[str, float]:
    """Squared differences of all parameters that both models have."""
    plain = dict(embshare.materialize(shared).named_parameters())
    return {
        name: float((plain[name] - wanted).detach().square().sum())
        for name, wanted in dense.named_parameters()
    }


@pytest.mark.parametrize("config", [{}, {"factor": 16}, {"column_bias": True}], ids=str)
def test_at_full_rank_it_is_the_dense_model_again(config: dict[str, Any]) -> None:
    dense = stack(rows=16, width=24)  # a table of rank 16 spans all columns of 16 elements
    wanted = ShareConfig(tie="none", init="svd", **config)
    shared = embshare.share_from_embedding(dense, wanted, inplace=False)
    ids = torch.arange(16)
    torch.testing.assert_close(shared(ids), dense(ids), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_a_residual_of_full_rank_makes_up_for_everything(example: Example) -> None:
    dense, shared = (seeded(example) for _ in range(2))  # torch cannot copy older weight norms
    config = ShareConfig(include=example.include, tie="none", init="svd")
    slots = embshare.plan_sharing(shared, config, rules=example.rules).slots
    # A weight whose smaller side is below the rank stays dense, and so is exact as well.
    rank = max(min(slot.shape[0], slot.numel // slot.shape[0]) for slot in slots)
    config = config.model_copy(update={"residual_rank": rank})
    plan = embshare.plan_sharing(shared, config, rules=example.rules)
    embshare.share_from_embedding(shared, plan)
    for name, difference in errors(dense, shared).items():
        assert difference < 1e-16, name


@pytest.mark.parametrize("factor", [3, 8])
def test_table_and_weights_have_the_least_error_together(factor: int) -> None:
    dense = stack(rows=40, width=12)
    plan = embshare.plan_sharing(dense, ShareConfig(tie="none", factor=factor, init="svd"))
    targets = [dense.embed.weight.detach()]
    for slot in plan.slots:  # by loops: what each column should be
        weight = dense.get_parameter(slot.weights[0]).detach().t().reshape(-1)
        assert slot.delta == slot.columns * 40 - weight.numel()
        # Elements that nothing reads are zeros here, and free in the fit.
        targets.append(torch.nn.functional.pad(weight, (0, slot.delta)).view(40, slot.columns))
    both = torch.cat(targets, dim=1)
    bound = float(torch.linalg.svdvals(both)[factor:].square().sum())
    shared = embshare.share_from_embedding(dense, plan, inplace=False)
    found = errors(dense, shared)
    total = sum(v for name, v in found.items() if "bias" not in name)
    assert total <= bound * (1 + 1e-9)  # free elements can only help
    assert total > 0.5 * bound


def test_tied_layers_start_at_their_mean() -> None:
    dense = stack(rows=16, width=24)
    shared = embshare.share_from_embedding(dense, ShareConfig(init="svd"), inplace=False)
    mean = torch.stack([layer.get_parameter("weight") for layer in dense.layers]).mean(0)
    for layer in shared.layers:
        torch.testing.assert_close(layer.weight, mean, rtol=1e-9, atol=1e-9)


def test_eps_meets_in_the_middle() -> None:
    dense = stack(rows=200, width=12)
    config = ShareConfig(method="eps", init="svd", gain="none")
    shared = embshare.share_from_embedding(dense, config, inplace=False)
    random = embshare.share_from_embedding(
        dense, ShareConfig(method="eps", gain="none"), inplace=False
    )
    assert sum(errors(dense, shared).values()) < 0.75 * sum(errors(dense, random).values())


def test_calibration_fits_residuals_to_what_layers_put_out() -> None:
    """Inputs that use a third of the channels: errors elsewhere do not count."""
    torch.manual_seed(0)
    dense: Any = nn.ModuleDict({"embed": nn.Embedding(60, 18), "layer": nn.Linear(18, 30)})
    used = torch.zeros(18)
    used[::3] = 1.0

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = dense

        def forward(self, scale: Tensor) -> Tensor:
            found: Tensor = self.parts["layer"](scale * used)
            return found

    model = Caller()
    inputs = [torch.randn(64, 18) for _ in range(4)]
    config = ShareConfig(init="svd", residual_rank=6)
    found = []
    for calibration in (None, inputs):
        shared = embshare.share_from_embedding(
            model, config, calibration=calibration, inplace=False
        )
        with torch.no_grad():
            left = torch.stack([shared(x) - model(x) for x in inputs])
        found.append(float(left.square().mean()))
    plain, calibrated = found
    assert calibrated < 1e-6 < plain, "six directions are all that the inputs have"


@pytest.mark.parametrize("name", ["linear", "hf-conv1d", "lstm", "attention", "conv2d"])
def test_calibration_knows_which_side_of_a_weight_meets_the_input(name: str) -> None:
    example = next(e for e in EXAMPLES if e.name == name)
    torch.manual_seed(0)
    model: Any = example.build()
    plan = embshare.plan_sharing(model, ShareConfig(init="svd"), rules=example.rules)
    found = inputs_of_weights(model, plan, [example.inputs])
    hidden = model.embed(example.inputs["ids"]).detach().flatten(0, 1).double()
    wanted = hidden.t() @ hidden / len(hidden)
    known = {
        "linear": {"layer.weight": 1},
        "hf-conv1d": {"layer.weight": 0},
        "lstm": {"layer.weight_ih_l0": 1},
        "attention": {"layer.in_proj_weight": 1},
        "conv2d": {},
    }
    assert {key: inputs.dimension for key, inputs in found.items()} == known[name]
    for inputs in found.values():
        torch.testing.assert_close(inputs.moment, wanted, rtol=1e-5, atol=1e-5)


def test_the_randomised_decomposition_follows_its_generator() -> None:
    dense = stack(rows=40, width=12)
    config = ShareConfig(factor=4, init="svd")
    weights = [
        embshare.share_from_embedding(
            dense, config, inplace=False, generator=torch.Generator().manual_seed(3)
        )
        .layers[0]
        .weight
        for _ in range(2)
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_meta_weights_cannot_be_fitted() -> None:
    with torch.device("meta"):
        dense = Stack(40, 12)
    with pytest.raises(InvalidValueError, match=r"needs real weights, but `embed.weight` is on"):
        embshare.share_from_embedding(dense, ShareConfig(init="svd"))
    assert not hasattr(dense, "embshare_bank") and type(dense.layers[0]) is nn.Linear


@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
def test_a_fitted_model_trains(example: Example) -> None:
    config = ShareConfig(init="svd", factor=5, gain="learned", residual_rank=1)
    shared = embshare.share_from_embedding(example.build(), config)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        out: Any = shared(**example.inputs)
        loss = (out if isinstance(out, Tensor) else out.logits).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
