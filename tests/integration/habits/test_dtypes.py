"""Types: a derived weight has its layer's dtype, whatever is cast, in whatever order."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import GrowthWarning
from tests._support.habit_models import (
    CONFIGS,
    IDS,
    LM,
    VOCABULARY,
    WIDTH,
    equal,
    loss,
    out,
    shared,
)
from tests._support.habit_models import train as train_by_adam
from tests._support.layer_examples import LAYERS, Example

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


class Mixed(nn.Module):
    """A table and head in float32 around layers of another type."""

    def __init__(self, dtype: torch.dtype, bias: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.enc = nn.Sequential(
            nn.Linear(WIDTH, WIDTH, bias=bias), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=bias)
        ).to(dtype)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.enc(self.embed(x).to(self.dtype)).to(self.head.bias.dtype))
        return found


def mixed(config: ShareConfig, dtype: torch.dtype) -> Any:
    """Shared, with the head left dense for EPS, which has no columns for it."""
    if config.method == "eps":
        config = config.model_copy(update={"exclude": ("head.weight",)})
    return embshare.share_from_embedding(Mixed(dtype), config)


def train(model: Any, steps: int = 3) -> Any:
    """Train by SGD: the epsilon of Adam is zero in float16."""
    return train_by_adam(model, steps, torch.optim.SGD(model.parameters(), lr=0.1))


@ALL
@HALVES
def test_layers_of_another_type_than_their_table(config: ShareConfig, dtype: torch.dtype) -> None:
    model = mixed(config, dtype)
    assert model.enc[0].weight.dtype is dtype and model.head.weight.dtype is torch.float32
    train(model)
    assert model.embed._parameters["weight"].grad.dtype is torch.float32
    plain = embshare.materialize(model)
    assert plain.enc[0].weight.dtype is dtype and plain.head.weight.dtype is torch.float32
    assert torch.equal(plain.enc[0].weight, model.enc[0].weight)
    torch.testing.assert_close(out(plain), out(model), rtol=1e-2, atol=1e-2)


@ALL
@HALVES
def test_mixed_models_are_saved_and_loaded_to_the_bit(
    config: ShareConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = train(mixed(config, dtype))
    builds: tuple[Any, ...] = (lambda: Mixed(dtype), lambda: Mixed(torch.float32))
    for build in builds:
        loaded: Any = embshare.load(embshare.save(model, tmp_path), build())
        loaded.dtype = dtype
        assert loaded.enc[0].weight.dtype is dtype
        assert equal(loaded, model)
    twin = mixed(config, dtype)
    twin.load_state_dict(model.state_dict())
    assert equal(twin, model)
    assert equal(copy.deepcopy(model), model)


@ALL
@HALVES
def test_a_part_that_is_cast_after_sharing(config: ShareConfig, dtype: torch.dtype) -> None:
    model = mixed(config, torch.float32)
    model.enc.to(dtype)
    model.dtype = dtype
    assert model.enc[0].weight.dtype is dtype and model.enc[0].bias.dtype is dtype
    assert model.head.weight.dtype is torch.float32
    train(model)
    model.enc.float()
    model.dtype = torch.float32
    assert model.enc[0].weight.dtype is torch.float32
    train(model)


@pytest.mark.parametrize("cast", [torch.nn.Module.half, torch.nn.Module.bfloat16])
def test_a_bias_less_block_is_cast_though_it_stores_nothing(cast: Any) -> None:
    model: Any = embshare.share_from_embedding(Mixed(torch.float32, bias=False))
    cast(model.enc)
    dtype = model.enc[0].weight.dtype
    assert dtype in (torch.half, torch.bfloat16)
    model.dtype = dtype
    train(model)
    assert torch.equal(embshare.materialize(model).enc[0].weight, model.enc[0].weight)


def test_a_head_kept_in_float32_while_the_model_is_half() -> None:
    """The norm of large models: all in bfloat16 but the head."""
    model = shared().bfloat16()
    model.head.float()
    assert model.head.weight.dtype is torch.float32 and model.enc[0].weight.dtype is torch.bfloat16
    hidden = model.enc(model.embed(IDS))
    assert hidden.dtype is torch.bfloat16
    assert model.head(hidden.float()).dtype is torch.float32


@ALL
def test_the_whole_model_is_cast_and_cast_back(config: ShareConfig) -> None:
    model = shared(config)
    for dtype in (torch.bfloat16, torch.float64, torch.float32):
        model.to(dtype)
        assert model(IDS).dtype is dtype
        assert model.enc[0].weight.dtype is dtype
        train(model, 1)


def test_layers_in_half_and_the_whole_cast_afterwards() -> None:
    model = mixed(ShareConfig(), torch.bfloat16)
    model.to(torch.float64)
    model.dtype = torch.float64
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model.enc[0].weight.dtype is torch.float64
    train(model)


@ALL
def test_autocast_runs_mixed_layers(config: ShareConfig) -> None:
    model = mixed(config, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(IDS)
    logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype is p.dtype for p in model.parameters())


@ALL
def test_autocast_switched_off_for_a_part(config: ShareConfig) -> None:
    model = shared(config)
    seen = list[torch.dtype]()
    model.head.register_forward_hook(lambda *a: seen.append(a[2].dtype))
    whole = model.head.forward

    def outside(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            found: Tensor = whole(x.float())
            return found

    model.head.forward = outside
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(IDS).square().mean().backward()
    assert seen == [torch.float32]


def test_a_grad_scaler_and_autocast_train_as_they_do_without_sharing() -> None:
    model = shared()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    before = float(loss(model).detach())
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(model)
        scaler.scale(found).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert float(loss(model).detach()) < before


@pytest.mark.parametrize("called", [False, True])
def test_torchs_switch_to_swap_tensors_on_conversion(called: bool) -> None:
    model, other = shared(), shared(seed=1)
    if called:  # what notes the state of sources must hold on to none of them
        train_by_adam(model)
        assert not torch.equal(out(model), out(other))
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.bfloat16()
        other.bfloat16()
        other.load_state_dict(model.state_dict())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert equal(other, model)
    train(model)


def test_a_default_dtype_at_construction() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = shared()
        fresh: Any = LM()
        fresh.embed.float()
        embshare.share_from_embedding(fresh)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model(IDS).dtype is torch.bfloat16
    assert fresh.enc[0].weight.dtype is torch.bfloat16


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("example", LAYERS, ids=lambda e: e.name)
def test_every_kind_of_layer_in_bfloat16_under_a_float32_table(
    example: Example, tmp_path: Path
) -> None:
    torch.manual_seed(0)

    def build() -> Any:
        model: Any = example.build()
        model.layer.bfloat16()
        use = model.use
        model.use = lambda layer, hidden: use(layer, hidden.bfloat16()).float()
        return model

    model = build()
    config = ShareConfig(include=example.include)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GrowthWarning)
        embshare.share_from_embedding(model, config, rules=example.rules)
    logits = model(**example.inputs)
    logits.square().mean().backward()
    assert model.embed.weight.grad.dtype is torch.float32
    with torch.no_grad():
        wanted = model(**example.inputs)
        plain = embshare.materialize(model)(**example.inputs)
        torch.testing.assert_close(plain, wanted, rtol=1e-2, atol=1e-2)
        loaded = embshare.load(embshare.save(model, tmp_path), build())
        assert torch.equal(loaded(**example.inputs), wanted)
