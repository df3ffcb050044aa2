"""`init="auto"`: what it comes to, what is recorded of it, and how good the fit was."""

import json
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare import ShareConfig, SharePlan, plan_sharing, share_from_embedding
from embshare.errors import InvalidValueError
from embshare.runtime.bank import require_bank

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(37, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(ids)
        for layer in self.layers:
            hidden = layer(hidden).tanh()
        return self.out(hidden)  # type: ignore[no-any-return]


CONFIGS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie": "none"},
    "factor": {"factor": 4},
    "residual": {"residual_rank": 2},
    "learned gains": {"gain": "channel", "residual_rank": 1},
    "bias": {"column_bias": True, "tie": "cycle:2"},
    "eps": {"method": "eps", "tie": "all"},
    "eps with a factor": {"method": "eps", "factor": 6},
    "several sources": {"source": {"layers.*": "embed", "out.*": "embed"}},
}


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_the_error_of_the_fit_is_that_of_the_weights(fields: dict[str, Any]) -> None:
    model = Model()
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    shared = share_from_embedding(model, ShareConfig(**fields), trained=True)
    bank = require_bank(shared)
    assert (bank.plan.start, bank.evaluations) == ("svd", 0)
    lost = whole = 0.0
    for slot in bank.plan.slots:
        now = torch.stack([_get(shared, name).detach() for name in slot.weights])
        then = torch.stack([trained[name] for name in slot.weights])
        assert slot.fit_error == pytest.approx(float((now - then).norm() / then.norm()), rel=1e-4)
        lost += float((now - then).square().sum())
        whole += float(then.square().sum())
    assert bank.plan.fit_error == pytest.approx((lost / whole) ** 0.5, rel=1e-4)
    text = str(bank.plan)
    assert f"start: svd (trained=True); relative error of the fit {bank.plan.fit_error:.3g}" in text
    assert bank.plan.start_line in str(embshare.summarize(shared))


def _get(model: nn.Module, name: str) -> torch.Tensor:
    owner, _, leaf = name.rpartition(".")
    found: torch.Tensor = getattr(model.get_submodule(owner), leaf)
    return found


def test_with_room_for_everything_the_error_is_rounding() -> None:
    config = ShareConfig(tie="none", residual_rank=5)
    shared = share_from_embedding(Model(), config, trained=True)
    errors = [row.fit_error for row in embshare.summarize(shared).layers]
    assert errors[-1] is not None and errors[-1] < 1e-5  # 5 x 8: of rank 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_weights_of_any_precision_can_be_fitted(fields: dict[str, Any], dtype: torch.dtype) -> None:
    shared = share_from_embedding(Model().to(dtype), ShareConfig(**fields), trained=True)
    error = embshare.summarize(shared).fit_error
    assert error is not None and error < (1.01 if fields.get("method") != "eps" else 10)
    assert {p.dtype for p in shared.parameters()} == {dtype}


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "factor_norm": ({"factor": 4, "factor_norm": True}, "factor_norm"),
    "anchor": ({"anchor": 1.0}, "anchor"),
}


@pytest.mark.parametrize(("fields", "word"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_fitted_starts_at_random_and_says_why(
    fields: dict[str, Any], word: str
) -> None:
    plan = plan_sharing(Model(), ShareConfig(**fields), trained=True)
    assert plan.start == "random"
    assert "trained=True, but" in str(plan) and word in (plan.init_reason or "")
    share_from_embedding(Model(), ShareConfig(**fields), trained=True)
    with pytest.raises(InvalidValueError, match=word):
        ShareConfig(**fields, init="svd")


def test_weights_on_meta_start_at_random_and_say_why() -> None:
    model = Model().to("meta")
    plan = plan_sharing(model, trained=True)
    assert plan.start == "random" and "on meta" in (plan.init_reason or "")
    with pytest.raises(InvalidValueError, match="on meta"):
        share_from_embedding(model, ShareConfig(init="svd"))


@pytest.mark.parametrize("trained", [True, False, None])
@pytest.mark.parametrize("init", ["random", "svd"])
def test_what_the_config_says_is_not_asked(init: Any, trained: bool | None) -> None:
    plan = plan_sharing(Model(), ShareConfig(init=init), trained=trained)
    assert (plan.start, plan.init, plan.init_reason) == (init, None, None)


def test_gains_follow_what_was_chosen() -> None:
    model = Model()
    for auto, init in ((True, "svd"), (False, "random")):
        chosen = plan_sharing(model, trained=auto).slots
        assert chosen == plan_sharing(model, ShareConfig.model_validate({"init": init})).slots


def test_what_earlier_versions_wrote_is_read_and_written_as_it_was() -> None:
    plan = plan_sharing(Model(), ShareConfig(init="svd"))
    fields = json.loads(plan.to_json())
    assert not {"init", "init_reason", "fit_error"} & fields.keys()
    assert "fit_error" not in fields["slots"][0]
    assert SharePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("init", ["random", "svd"])
def test_a_plan_says_once_how_it_starts(init: str) -> None:
    auto = json.loads(plan_sharing(Model()).to_json())
    with pytest.raises(InvalidValueError, match="`init` must be decided"):
        SharePlan(**{key: value for key, value in auto.items() if key != "init"})
    plan = json.loads(plan_sharing(Model(), ShareConfig.model_validate({"init": init})).to_json())
    with pytest.raises(InvalidValueError, match="`init` must be decided"):
        SharePlan(**{**plan, "init": init})


def test_a_plan_is_the_same_before_and_after_its_fit(tmp_path: Any) -> None:
    model = Model()
    plan = plan_sharing(model, trained=True)
    shared = share_from_embedding(model, plan)
    assert require_bank(shared).plan != plan
    assert require_bank(shared).plan.unfitted() == plan
    assert share_from_embedding(shared, plan) is shared
    embshare.save(shared, tmp_path)
    loaded = embshare.load(tmp_path, share_from_embedding(Model(), plan))
    assert require_bank(loaded).plan == require_bank(shared).plan
    assert all(
        torch.equal(a, b) for a, b in zip(shared.parameters(), loaded.parameters(), strict=True)
    )


def test_calibration_needs_a_fit() -> None:
    inputs = [torch.arange(6)]
    with pytest.raises(InvalidValueError, match="calibration needs init='svd'"):
        share_from_embedding(Model(), calibration=inputs)
    config = ShareConfig(residual_rank=1)
    share_from_embedding(Model(), config, calibration=inputs, trained=True)
