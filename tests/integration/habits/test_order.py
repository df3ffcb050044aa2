"""Order: what was made before sharing (optimizers, hooks, compiled models) warns or follows."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import embshare
from embshare.errors import StaleOptimizerWarning
from tests._support.habit_models import IDS, LM, loss, out, shared, train

share = embshare.share_from_embedding
STALE = pytest.warns(StaleOptimizerWarning, match=r"steps \d+ weights.*model\.parameters\(\)")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.LBFGS(p, lr=0.1),
    ],
    ids=["sgd", "adamw", "fused", "lbfgs"],
)
def test_an_optimizer_made_before_sharing_is_warned_of_once(make: Any) -> None:
    model: Any = LM()
    optimizer = make(model.parameters())
    share(model)

    def closure() -> Any:
        optimizer.zero_grad()
        found = loss(model)
        found.backward()
        return found

    with STALE as given:
        for _ in range(3):
            optimizer.step(closure)
    assert len(given) == 1


def test_one_that_was_warned_of_is_warned_of_again_for_another_model() -> None:
    for _ in range(2):
        model: Any = LM()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with STALE:
            train(share(model), 1, optimizer)


def test_an_optimizer_of_the_shared_model_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(shared())


def test_an_optimizer_of_other_parameters_gives_no_warning() -> None:
    other = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    shared()
    other(torch.ones(3)).sum().backward()
    optimizer.step()


def test_an_optimizer_kept_after_materializing_is_warned_of() -> None:
    other = LM()
    kept = list(other.parameters())  # removed from another model, so that there is what to look for
    share(other)
    model = shared()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, 1, optimizer)
    assert kept
    embshare.materialize(model, inplace=True)
    with STALE:
        train(model, 1, optimizer)


def test_an_optimizer_of_a_dense_model_whose_copy_was_shared_is_right() -> None:
    model: Any = LM()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    share(model, inplace=False)
    train(model, 1, optimizer)


def test_a_scheduler_made_before_goes_with_its_optimizer() -> None:
    model: Any = LM()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    share(model)
    with STALE:
        train(model, 1, optimizer)
    scheduler.step()


def test_an_optimizers_state_of_the_dense_model_is_refused_by_torch() -> None:
    dense: Any = LM()
    before = torch.optim.AdamW(dense.parameters())
    after = torch.optim.AdamW(shared().parameters())
    with pytest.raises(ValueError, match=r"(size|length)"):
        after.load_state_dict(before.state_dict())


def test_clipping_a_list_that_was_made_before_leaves_new_parameters_unclipped_but_steps_tell() -> (
    None
):
    model: Any = LM()
    kept = list(model.parameters())
    optimizer = torch.optim.SGD(kept, lr=0.1)
    share(model)
    loss(model).backward()
    nn.utils.clip_grad_norm_(kept, 1e-3)
    with STALE:
        optimizer.step()


def test_hooks_of_modules_made_before_sharing_go_on() -> None:
    model: Any = LM()
    seen = list[str]()
    model.enc[0].register_forward_hook(lambda *_: seen.append("forward"))
    model.enc[0].register_full_backward_hook(lambda *_: seen.append("backward"))
    model.register_forward_pre_hook(lambda *_: seen.append("root"))
    share(model)
    loss(model).backward()
    assert seen == ["root", "forward", "backward"]


def test_a_gradient_hook_of_the_table_made_before_sharing_goes_on() -> None:
    model: Any = LM()
    seen = list[int]()
    model.embed.weight.register_hook(lambda g: seen.append(1))
    share(model)
    loss(model).backward()
    assert seen == [1]


def test_gradients_of_before_are_kept_for_what_is_still_there() -> None:
    model: Any = LM()
    loss(model).backward()
    gradient = model.embed.weight.grad.clone()
    share(model)
    assert torch.equal(model.embed.weight.grad, gradient)
    model.zero_grad()
    train(model)


def test_a_model_compiled_before_sharing_computes_the_shared_one() -> None:
    torch._dynamo.reset()
    model: Any = LM()
    compiled: Any = torch.compile(model, backend="eager")
    compiled(IDS)
    share(model)
    torch.testing.assert_close(out(compiled), out(model))
    train(model)
    torch.testing.assert_close(out(compiled), out(model))


def test_an_averaged_model_made_before_sharing_is_refused_for_its_shapes() -> None:
    """Its copy is dense: torch pairs parameters by order, and says that they do not fit."""
    model: Any = LM()
    average = AveragedModel(model)
    share(model)
    with pytest.raises(RuntimeError, match="size of tensor"):
        average.update_parameters(model)


def test_a_copy_kept_before_sharing_is_the_dense_model() -> None:
    model: Any = LM()
    kept = copy.deepcopy(model)
    before = out(model)
    train(share(model))
    assert torch.equal(out(kept), before)


def test_a_named_parameter_held_before_sharing_is_in_no_model_any_more() -> None:
    model: Any = LM()
    held = model.enc[0].weight
    share(model)
    assert all(held is not p for p in model.parameters())
    with torch.no_grad():
        before = out(model)
        held.zero_()
    assert torch.equal(out(model), before)


def test_add_param_group_of_what_sharing_added() -> None:
    """An optimizer that cannot be made again is still warned of for what it holds."""
    model: Any = LM()
    optimizer = torch.optim.SGD([model.embed.weight], lr=0.1)
    share(model)
    rest = [p for p in model.parameters() if p is not model.embed.weight]
    optimizer.add_param_group({"params": rest})
    before = model.enc[0].weight.clone()
    train(model, 1, optimizer)
    assert not torch.equal(model.enc[0].weight, before)
