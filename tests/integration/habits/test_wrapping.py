"""Wrapping: every verb looks through what is around a shared model, at any depth."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import embshare
from embshare import ShareConfig
from embshare.errors import AlreadySharedError, PlanError, TableReplacedError
from embshare.runtime.bank import banks_of
from tests._support.habit_models import LM, equal, out, shared, train


class Lit(nn.Module):
    """A wrapper like a Lightning module: it runs a network and stores nothing itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


class Head(nn.Module):
    """A parent with another layer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.top = net, nn.Linear(97, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.top(self.net(x))
        return found


class Pair(nn.Module):
    """A student and a teacher, whose settings may differ."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = first, second

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.student(x) + self.teacher(x)
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one, over gloo."""
    store = torch._C._distributed_c10d.FileStore(str(tmp_path_factory.mktemp("gloo") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model: nn.Module) -> Any:
    """Compile by the backend that compiles nothing, which is fast."""
    torch._dynamo.reset()
    return torch.compile(model, backend="eager")


AROUND: dict[str, Callable[[nn.Module], Any]] = {
    "compiled": compiled,
    "lit": Lit,
    "compiled lit": lambda m: compiled(Lit(m)),
    "lit of compiled": lambda m: Lit(compiled(m)),
    "parent": Head,
    "nested parents": lambda m: Head(Lit(nn.Sequential(m))),
    "ddp": lambda m: nn.parallel.DistributedDataParallel(m),
    "ddp of lit": lambda m: nn.parallel.DistributedDataParallel(Lit(m)),
    "compiled ddp": lambda m: compiled(nn.parallel.DistributedDataParallel(m)),
    "averaged": AveragedModel,
    "pair": lambda m: Pair(m, shared(ShareConfig(factor=5), seed=1)),
    "lit of pair": lambda m: Lit(Pair(m, shared(ShareConfig(tie="none"), seed=1))),
}
BUILD: dict[str, Callable[[nn.Module], Any]] = {
    **AROUND,
    "pair": lambda m: Pair(m, LM()),
    "lit of pair": lambda m: Lit(Pair(m, LM())),
}
WRAPPED = pytest.mark.parametrize("name", AROUND)
pytestmark = pytest.mark.usefixtures("world")


@WRAPPED
def test_what_is_saved_is_loaded_into_the_wrapped_and_the_plain_model(
    name: str, tmp_path: Path
) -> None:
    model = AROUND[name](train(shared())).eval()
    embshare.save(model, tmp_path)
    torch.manual_seed(9)
    loaded = embshare.load(tmp_path, BUILD[name](LM())).eval()
    assert equal(loaded, model)
    if name in ("compiled", "lit", "ddp", "ddp of lit", "compiled ddp", "compiled lit"):
        inner: Any = embshare.load(tmp_path, LM()).eval()
        assert equal(inner, model)


@pytest.mark.filterwarnings("ignore:Dynamo does not know")  # of DDP's broadcast of buffers
@WRAPPED
def test_it_is_made_plain_and_computes_the_same(name: str) -> None:
    model = AROUND[name](shared()).eval()
    wanted = out(model)
    plain = embshare.materialize(model).eval()
    assert not banks_of(plain)
    torch.testing.assert_close(out(plain), wanted)
    assert banks_of(model)
    torch.testing.assert_close(out(model), wanted)


@WRAPPED
def test_it_is_summarized(name: str) -> None:
    model = AROUND[name](shared())
    summary = embshare.summarize(model)
    assert summary.stored < summary.stored_before
    assert len([w for row in summary.layers for w in row.weights]) == 3 * len(banks_of(model))
    assert str(summary)


@WRAPPED
def test_kept_weights_are_derived_once(name: str) -> None:
    if "compiled" in name:
        pytest.skip("kept weights and compilers have their own tests")
    model = AROUND[name](shared()).eval()
    out(model)
    embshare.release(model)  # a block takes over what calls without gradients have kept
    before = [bank.evaluations for bank in banks_of(model)]
    with embshare.cached(model):
        for _ in range(3):
            out(model)
    after = [bank.evaluations for bank in banks_of(model)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1] * len(banks_of(model))


@WRAPPED
def test_its_parameters_are_in_one_group_each(name: str) -> None:
    model = AROUND[name](shared())
    groups = embshare.parameter_groups(model, lr=1e-2)
    parameters = [p for group in groups for p in group["params"]]
    assert len(parameters) == len(set(parameters))
    assert set(parameters) == set(model.parameters())
    tables = next(group["params"] for group in groups if group["name"] == "table")
    assert len(tables) == len(banks_of(model))


@WRAPPED
def test_layers_are_frozen_and_unfrozen(name: str) -> None:
    model = AROUND[name](shared())
    first: Any = next(m for m in model.modules() if isinstance(m, LM))
    assert embshare.freeze(model, "*enc.0.*")
    kept = first.enc[0].weight.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1)
    assert torch.equal(first.enc[0].weight, kept)
    assert embshare.unfreeze(model, "*enc.0.*")
    assert not torch.equal(first.enc[0].weight, kept)


@pytest.mark.parametrize("verb", [embshare.plan_sharing, embshare.share_from_embedding])
@WRAPPED
def test_a_shared_model_in_a_wrapper_is_not_shared_twice(name: str, verb: Any) -> None:
    model = AROUND[name](shared())
    if verb is embshare.share_from_embedding and "pair" not in name and "parent" not in name:
        assert verb(model) is model
        return
    with pytest.raises(AlreadySharedError, match="materialize"):
        verb(model)


def test_a_dense_model_in_ddp_is_shared_first() -> None:
    model = nn.parallel.DistributedDataParallel(LM())
    for verb in (embshare.plan_sharing, embshare.share_from_embedding):
        with pytest.raises(PlanError, match=r"DistributedDataParallel.*Share the model first"):
            verb(model)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo looks at placed weights
@pytest.mark.parametrize("wrap", [compiled, Lit, lambda m: Lit(compiled(m))])
def test_a_dense_model_in_a_wrapper_is_shared(wrap: Any) -> None:
    model = embshare.share_from_embedding(wrap(LM()))
    assert len(banks_of(model)) == 1
    train(model)


@WRAPPED
def test_it_is_copied_and_the_copy_is_its_own(name: str) -> None:
    if "ddp" in name:
        pytest.skip("torch does not copy DDP's reducer")
    model = AROUND[name](shared()).eval()
    twin = copy.deepcopy(model)
    before = out(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert torch.equal(out(model), before) and not equal(twin, model)


@pytest.mark.filterwarnings("ignore:Dynamo does not know")
@WRAPPED
def test_a_replaced_table_is_noticed_at_any_depth(name: str) -> None:
    model = AROUND[name](shared())
    inner = next(m for m in model.modules() if isinstance(m, LM))
    inner.embed = nn.Embedding(97, 12)
    with pytest.raises(TableReplacedError):
        out(model)


def test_ddp_trains_as_one_process_does() -> None:
    one, many = shared(), nn.parallel.DistributedDataParallel(shared())
    train(one), train(many)
    torch.testing.assert_close(out(many), out(one))


@pytest.mark.parametrize("name", ["compiled", "lit", "nested parents", "averaged", "pair"])
def test_a_state_dict_of_the_wrapper_loads_into_another(name: str) -> None:
    first, second = AROUND[name](train(shared())).eval(), AROUND[name](shared(seed=1)).eval()
    assert not equal(first, second)
    second.load_state_dict(first.state_dict())
    assert equal(first, second)


def test_lora_on_top_of_a_shared_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = shared()
    base = out(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["enc.0", "enc.2"]))
    torch.testing.assert_close(out(adapted), base)
    frozen = model.embed.weight.detach().clone()
    train(adapted)
    assert torch.equal(model.embed.weight, frozen)
    assert not torch.equal(out(adapted), base)
    summary = embshare.summarize(adapted)
    assert summary.layers
    adapted.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(shared(), tmp_path)
    torch.testing.assert_close(out(again), out(adapted))
    plain = embshare.materialize(adapted)
    torch.testing.assert_close(out(plain), out(adapted))
    merged = plain.merge_and_unload()
    torch.testing.assert_close(out(merged), out(adapted), rtol=1e-3, atol=1e-4)


def test_sharing_under_adapters_is_refused() -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(LM(), peft.LoraConfig(r=2, target_modules=["enc.0"]))
    with pytest.raises(PlanError, match=r"adapters of PEFT.*Share the model first"):
        embshare.share_from_embedding(adapted)


def test_two_models_that_share_one_table() -> None:
    """A table tied between two models: each is shared on its own, and both follow it."""
    first, second = LM(), LM()
    second.embed = first.embed
    both = Pair(embshare.share_from_embedding(first), embshare.share_from_embedding(second))
    before = out(both)
    train(both)
    assert not torch.equal(out(both), before)
    torch.testing.assert_close(out(embshare.materialize(both)), out(both))
