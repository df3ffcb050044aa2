"""Weights that calls without gradients keep: always the ones that would be derived now."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import embshare
from embshare.blocks import columns
from embshare.ops import checksum
from embshare.runtime.bank import Bank, require_bank

IDS = torch.arange(12)
CONFIGS = {
    "veps": {},
    "eps": {"method": "eps"},
    "bias": {"column_bias": True, "anchor": 1.0},
    "residual": {"residual_rank": 2},
    "channel": {"gain": "channel", "tie": "none"},
    "factor": {"factor": 8},
    "own": {"method": "own", "gain": "channel", "residual_rank": 1},
}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 256)
        self.second = nn.Linear(256, 16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(x).tanh())
        return found


class Model(nn.Module):
    """Gives its weights too. Its table has more than 256 KiB: blocks, and a rest besides them."""

    def __init__(self, rows: int = 4100) -> None:
        super().__init__()
        self.embed = nn.Embedding(rows, 16, padding_idx=3)
        self.pairs: Any = nn.ModuleList([Pair(), Pair()])

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embed(ids)
        for pair in self.pairs:
            x = x + pair(x)
        weights = [
            w.flatten() for pair in self.pairs for w in (pair.first.weight, pair.second.weight)
        ]
        return torch.cat([x.flatten(), *weights])  # an output alone may hide the last bit of one


def shared(config: str = "veps", rows: int = 4100) -> Model:
    torch.manual_seed(0)
    model = embshare.share_from_embedding(
        Model(rows), embshare.ShareConfig.model_validate(CONFIGS[config])
    )
    with torch.no_grad():
        for parameter in require_bank(model).relaxations.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # a residual starts at zero
    return model


@torch.no_grad()
def fresh(model: Model, ids: Tensor = IDS) -> Tensor:
    """What a model gives that never kept anything."""
    twin = copy.deepcopy(model)
    assert require_bank(twin).cache.keeper.kept is None
    found: Tensor = twin(ids)
    return found


@torch.no_grad()
def assert_current(model: Model, ids: Tensor = IDS) -> None:
    assert torch.equal(model(ids), fresh(model, ids))


def evaluations(bank: Bank, run: Callable[[], object]) -> int:
    before = bank.evaluations
    run()
    return bank.evaluations - before


@pytest.fixture(params=["fast", "exact"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with and without the processor's instructions for products of bytes."""
    if request.param == "exact":
        for module in (checksum, columns):
            monkeypatch.setattr(module, "has_fast_sums", lambda: False)
    elif not checksum.has_fast_sums():
        pytest.skip("no fast sums on this processor")
    return str(request.param)


# ------------------------------------------------------------------ once


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("config", CONFIGS)
def test_many_calls_derive_once(config: str, mode: Any, way: str) -> None:
    model = shared(config)
    bank = require_bank(model)
    wanted, random = fresh(model), torch.get_rng_state()
    found: list[Tensor] = []
    with mode():
        count = evaluations(bank, lambda: found.extend(model(IDS) for _ in range(20)))
    if config == "own":  # whose blocks are there already: gains and residuals are kept
        assert count == 0 and bank.cache.keeper.kept is not None
    else:
        assert count == (20 if (config, way) == ("eps", "exact") else 1)
    assert all(torch.equal(each, wanted) for each in found)
    assert torch.equal(torch.get_rng_state(), random)


def test_modes_autocast_and_parts_share_what_is_kept() -> None:
    model = shared()
    bank, x = require_bank(model), torch.randn(3, 16)

    def run() -> None:
        with torch.no_grad():
            first = model(IDS)
            part = model.pairs[1](x)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            half = model(IDS)
        with torch.inference_mode():
            assert torch.equal(first, model(IDS)) and torch.equal(part, model.pairs[1](x))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(half, model(IDS)) and not torch.equal(half, first)

    assert evaluations(bank, run) == 2, "the model and a part of it"
    assert evaluations(bank, run) == 0
    torch.enable_grad()(model)(IDS)
    assert evaluations(bank, run) == 2


def test_a_part_rounds_as_if_it_were_called_alone() -> None:
    model, twin, x = shared(), shared(), torch.randn(3, 16)
    with torch.no_grad():
        model(IDS)
        assert torch.equal(model.pairs[0](x), twin.pairs[0](x))
        assert torch.equal(model(IDS), shared()(IDS))


def test_gradients_may_be_asked_for_within_a_call_without() -> None:
    class Inner(Model):
        def forward(self, ids: Tensor) -> Tensor:
            with torch.enable_grad():
                return super().forward(ids)

    def gradients(calls: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = embshare.share_from_embedding(Inner())
        with torch.no_grad():
            for _ in range(calls):
                found = model(IDS)
        found.square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for ours, theirs in zip(gradients(3), gradients(1), strict=True):
        assert torch.equal(ours, theirs)


# ------------------------------------------------------------------ every way of writing

Write = Callable[[Model, Bank], object]


def _optimizer(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Write:
    def step(model: Model, bank: Bank) -> None:
        optimizer = make(model.parameters(), **options)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    return step


def _table(write: Callable[[Tensor], object]) -> Write:
    return lambda model, _: write(next(model.embed.parameters()))


def _swapped_rows(table: Tensor) -> None:
    table.data[[5, 6]] = table.data[[6, 5]]


def _one_ulp(table: Tensor) -> None:
    table.data.view(torch.int32)[4000, 15] += 1


def _signs(table: Tensor) -> None:
    table.data[[1, 2], 15] *= -1  # sums of the bytes stay as they are


@torch.no_grad()
def _set(table: Any) -> None:
    table.set_(table.data * 2)


def _swapped_storage(table: Tensor) -> None:
    table.data = table.data.flip(0)


def _every_parameter(write: Callable[[Tensor], object]) -> Write:
    return lambda model, bank: [write(p) for p in bank.parameters()]


def _loaded(assign: bool) -> Write:
    def load(model: Model, bank: Bank) -> None:
        state = {name: t * 2 if t.dim() else t for name, t in model.state_dict().items()}
        state["embshare_bank.scales.layout"] = bank.scales.layout
        model.load_state_dict(state, assign=assign)

    return load


def _replaced(model: Model, bank: Bank) -> None:
    name, table = next(iter(model.embed.named_parameters()))
    setattr(model.embed, name, nn.Parameter(table.detach() + 1))


def _averaged(model: Model, bank: Bank) -> None:
    """Write as a moving average is swapped in: through ``.data``, gains and all."""
    for tensor in (*model.parameters(), bank.scales.gains):
        tensor.data.copy_(tensor.data * 0.5)


WRITES: dict[str, Write] = {
    "sgd": _optimizer(torch.optim.SGD, lr=0.1),
    "fused sgd": _optimizer(torch.optim.SGD, lr=0.1, fused=True),
    "foreach sgd": _optimizer(torch.optim.SGD, lr=0.1, foreach=True),
    "adamw": _optimizer(torch.optim.AdamW),
    "fused adamw": _optimizer(torch.optim.AdamW, fused=True),
    "fused adam": _optimizer(torch.optim.Adam, fused=True),
    "fused adagrad": _optimizer(torch.optim.Adagrad, fused=True),
    "data": _table(lambda t: t.data.mul_(2)),
    "data of all": _every_parameter(lambda t: t.data.mul_(2)),
    "numpy": _table(lambda t: t.detach().numpy().__imul__(np.float32(2))),
    "copy": _table(lambda t: t.detach().copy_(t.detach() * 2)),
    "set": _table(lambda t: _set(t)),
    "storage": _table(_swapped_storage),
    "rows": _table(_swapped_rows),
    "ulp": _table(_one_ulp),
    "signs": _table(_signs),
    "padding row": _table(lambda t: t.data[3].fill_(0.25)),
    "gains": lambda _, bank: bank.scales.gains.data.mul_(2),
    "load": _loaded(assign=False),
    "assign": _loaded(assign=True),
    "replace": _replaced,
    "average": _averaged,
    "half": lambda model, _: model.bfloat16(),
    "half and back": lambda model, _: model.half().float(),
    "shared memory": lambda model, _: (model.share_memory(), _table(_one_ulp)(model, _)),
}


@pytest.mark.parametrize(
    ("config", "fast"),
    [("veps", True), ("residual", True), ("eps", True), ("residual", False)],
)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_of_any_kind_is_seen(
    write: str, config: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.setattr(checksum, "has_fast_sums", lambda: False)
    model = shared(config)
    bank = require_bank(model)
    with torch.no_grad():
        before = model(IDS).clone(), [bank.read(i).clone() for i in range(len(bank.readers))]
    WRITES[write](model, bank)
    after = [bank.read(i).detach() for i in range(len(bank.readers))]
    moved = any(not torch.equal(a, b) for a, b in zip(before[1], after, strict=True))
    assert moved or (write, config) == ("data of all", "eps"), "else this tests nothing"
    for _ in range(2):
        assert_current(model)


def test_a_write_that_is_undone_between_calls_changes_nothing() -> None:
    model = shared()
    bank, table = require_bank(model), model.embed.weight
    with torch.no_grad():
        wanted, saved = model(IDS), table.detach().clone()
        table.data.mul_(2)
        table.data.copy_(saved)
        assert evaluations(bank, lambda: model(IDS)) == 0
        table.data.mul_(2)
        assert not torch.equal(model(IDS), wanted)
        table.data.copy_(saved)
        assert torch.equal(model(IDS), wanted)


def test_rows_that_no_layer_reads_may_change() -> None:
    model = shared()
    model.embed.weight = nn.Parameter(torch.cat([model.embed.weight.detach(), torch.zeros(8, 16)]))
    bank = require_bank(model)
    with torch.no_grad():
        model(IDS)
        model.embed.weight.data[4100:] = 1.0
        assert evaluations(bank, lambda: model(IDS)) == 0
        assert torch.equal(model(torch.tensor([4101])), fresh(model, torch.tensor([4101])))


@pytest.mark.parametrize("rows", [500, 4100])
def test_a_table_in_other_memory_than_plain_rows(rows: int) -> None:
    """Columns in rows' place, a view of something larger, at an address that is not of 8 bytes."""
    model = shared(rows=rows)
    table, bank = model.embed.weight, require_bank(model)
    odd = torch.zeros(rows * 16 + 1)
    odd[1:] = table.detach().flatten()
    for data in (table.detach().t().contiguous().t(), odd[1:].view(rows, 16)):
        table.data = data
        for _ in range(2):
            assert_current(model)
            data[7, 7] += 1
    with torch.no_grad():
        assert evaluations(bank, lambda: model(IDS)) == 1
        assert evaluations(bank, lambda: model(IDS)) == 0


def test_a_square_projection_that_is_transposed_in_place() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.linear = nn.Embedding(64, 16), nn.Linear(32, 32)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            found: Tensor = self.linear(torch.cat([x, x], -1))
            return found

    model: Any = embshare.share_from_embedding(Square())
    projection = require_bank(model).columns[0].projection
    assert projection is not None and projection.shape == (16, 16)
    with torch.no_grad():
        model(IDS)
    projection.data = projection.data.t()
    assert_current(model)


# ------------------------------------------------------------------ writes into weights


def test_a_forward_that_writes_into_a_weight_spoils_no_later_call() -> None:
    class Rescaling(Pair):
        again = False

        def forward(self, x: Tensor) -> Tensor:
            if self.again:
                self.first.weight.div_(2)
            return super().forward(x)

    for mode in (torch.no_grad, torch.inference_mode):
        model = Model()
        model.pairs[0] = Rescaling()
        model = embshare.share_from_embedding(model)
        with mode():
            wanted = model(IDS)
            Rescaling.again = True
            assert not torch.equal(model(IDS), wanted)
            Rescaling.again = False
            assert torch.equal(model(IDS), wanted)


def test_autocast_that_changes_within_a_call_reaches_every_part() -> None:
    class Careful(Model):
        def forward(self, ids: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=False):
                return super().forward(ids)

    torch.manual_seed(0)
    model = embshare.share_from_embedding(Careful())
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            wanted = model(IDS)
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16):
                    found = model(IDS)
                torch.testing.assert_close(found, wanted)


def test_an_output_that_is_a_weight_may_be_written() -> None:
    class Giving(Model):
        def forward(self, ids: Tensor) -> Tensor:
            found: Tensor = self.pairs[0].first.weight
            return found

    model = embshare.share_from_embedding(Giving())
    with torch.no_grad():
        wanted = model(IDS).clone()
        model(IDS).mul_(2)
        assert torch.equal(model(IDS), wanted)


# ------------------------------------------------------------------ memory


def test_a_call_with_gradients_drops_what_is_kept() -> None:
    model = shared()
    cache = require_bank(model).cache
    with torch.no_grad():
        model(IDS)
    assert cache.keeper.kept is not None
    model(IDS)
    assert cache.keeper.kept is None


def test_no_copy_and_no_file_has_them() -> None:
    model = shared()
    size = len(pickle.dumps(model))
    with torch.no_grad():
        wanted = model(IDS)
    assert len(pickle.dumps(model)) == size
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert require_bank(twin).cache.keeper.kept is None
        twin.embed.weight.data.mul_(2)
        with torch.no_grad():
            assert not torch.equal(twin(IDS), wanted)
            assert torch.equal(model(IDS), wanted)


def test_keep_and_release_are_a_block_and_free_its_memory() -> None:
    student, teacher = shared(), shared("residual")
    both = nn.ModuleDict({"a": student, "deep": nn.Sequential(nn.Identity(), teacher)})
    banks = [require_bank(model) for model in (student, teacher)]
    embshare.keep(both)
    embshare.keep(both)
    ours, theirs = banks
    assert evaluations(ours, lambda: [student(IDS) for _ in range(3)]) == 1
    assert evaluations(theirs, lambda: [teacher(IDS) for _ in range(3)]) == 1
    embshare.release(both)
    assert evaluations(ours, lambda: student(IDS)) == evaluations(theirs, lambda: teacher(IDS)) == 0
    embshare.release(both)
    assert [bank.cache.keeper.kept for bank in banks] == [None, None]
    with torch.no_grad():
        student(IDS)
    assert banks[0].cache.keeper.kept is not None
    embshare.release(both)  # none is open: what calls have kept
    assert banks[0].cache.keeper.kept is None and not banks[0].cache.keeper.blocks
    embshare.keep(nn.Linear(2, 2))
    embshare.release(nn.Linear(2, 2))


def test_a_block_takes_over_what_is_current_and_hands_it_on() -> None:
    model = shared()
    bank = require_bank(model)

    def blocks() -> None:
        for _ in range(3):
            with embshare.cached(model):
                model(IDS)
            model(IDS)

    with torch.no_grad():
        assert evaluations(bank, blocks) == 1
        model.embed.weight.data.mul_(2)
        with embshare.cached(model):
            assert torch.equal(model(IDS), fresh(model))
            model.embed.weight.data.mul_(2)  # what the block does not look for
        assert_current(model)
        assert evaluations(bank, blocks) == 0


# ------------------------------------------------------------------ optimizers


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_fused_step_inside_a_block_is_noticed(make: Any) -> None:
    model = shared("residual")
    optimizer = make(model.parameters(), lr=0.1, fused=True)
    other = make(shared().parameters(), lr=0.1, fused=True)
    bank = require_bank(model)
    for group in other.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    with embshare.cached(model):
        model(IDS).sum().backward()
        other.step()  # another model's is nobody's business
        assert evaluations(bank, lambda: model(IDS)) == 0
        version = model.embed.weight._version
        optimizer.step()
        if model.embed.weight._version != version:
            pytest.fail("torch counts fused steps now: the hook can go")
        with pytest.warns(embshare.errors.StaleCacheWarning):
            found = model(IDS)
    assert torch.equal(found, fresh(model))


def test_a_step_whose_closure_derives_is_noticed() -> None:
    model = shared()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(IDS).square().sum()
        loss.backward()
        return float(loss.detach())

    with embshare.cached(model):
        optimizer.step(closure)
        with pytest.warns(embshare.errors.StaleCacheWarning):
            model(IDS)


def test_a_backward_after_a_fused_step_is_an_error() -> None:
    model = shared()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    first, second = model(IDS).sum(), model(IDS).sum()
    first.backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified in place between forward and backward"):
        second.backward()


# ------------------------------------------------------------------ who sees through, who is beside


@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_tracers_transforms_and_modes_are_given_nothing_that_was_kept() -> None:
    from torch.func import functional_call, vmap
    from torch.utils.flop_counter import FlopCounterMode

    model = shared()
    table = model.embed.weight
    with torch.no_grad():
        model(IDS)
        doubled = {"embed.weight": table.detach() * 2}
        found = functional_call(model, doubled, (IDS,))
        stacked = {"embed.weight": torch.stack([table.detach(), table.detach() * 2])}
        both = vmap(lambda state: functional_call(model, state, (IDS,)))(stacked)
        torch.testing.assert_close(both[1], found)
        torch.testing.assert_close(both[0], model(IDS))
        assert not torch.allclose(both[0], both[1])
        counts = []
        for _ in range(2):
            with FlopCounterMode(display=False) as counter:
                model(IDS)
            counts.append(counter.get_total_flops())
        assert counts[0] == counts[1]
        traced = torch.jit.trace(model, (IDS,), check_trace=False)
        table.data.mul_(2)
        torch.testing.assert_close(traced(IDS), model(IDS))
    assert_current(model)


def test_two_threads_in_calls_at_a_time_are_right() -> None:
    model = shared()
    wanted = {False: fresh(model)}
    with torch.autocast("cpu", torch.bfloat16):
        wanted[True] = fresh(model)
    wrong: list[str] = []

    def calls(cast: bool) -> None:
        for turn in range(60):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=cast):
                found = model(IDS)
            if not torch.allclose(found, wanted[cast], rtol=1e-6, atol=1e-6):
                wrong.append(f"turn {turn}, cast {cast}")
            if turn % 10 == 9:
                embshare.release(model)

    threads = [threading.Thread(target=calls, args=(cast,)) for cast in (False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_current(model)


def test_a_write_in_the_middle_of_a_call_is_not_taken_for_its_begin() -> None:
    """What is derived after it is not kept, though the bytes are back when the next call looks."""

    class Swapping(Model):
        swap = False

        def forward(self, ids: Tensor) -> Tensor:
            if not self.swap:
                return super().forward(ids)
            for parameter in require_bank(self).relaxations.parameters():
                parameter.data.mul_(2)
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(ids)

    torch.manual_seed(0)
    config = embshare.ShareConfig(residual_rank=2)
    model = embshare.share_from_embedding(Swapping(), config)
    with torch.no_grad():
        for parameter in require_bank(model).relaxations.parameters():
            parameter.add_(0.1)
        model(IDS)
        model.swap = True
        model(IDS)
        for parameter in require_bank(model).relaxations.parameters():
            parameter.data.div_(2)
        model.swap = False
        with torch.autocast("cpu", torch.bfloat16):
            assert_current(model)


# ------------------------------------------------------------------ any sequence


def _part(model: Model) -> Tensor:
    found: Tensor = model.pairs[1](torch.ones(2, 16))
    return found


def _cast(model: Model) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        found: Tensor = model(IDS)
    return found


CALLS: dict[str, Callable[[Model], Tensor]] = {
    "whole": lambda model: model(IDS),
    "part": _part,
    "autocast": _cast,
    "inference": lambda model: torch.inference_mode()(model)(IDS).clone(),
    "gradients": lambda model: torch.enable_grad()(model)(IDS).detach(),
    "block": lambda model: _in_block(model),
}


def _in_block(model: Model) -> Tensor:
    with embshare.cached(model):
        found: Tensor = model(IDS)
    return found


REPEATABLE = [name for name in WRITES if name not in ("half", "shared memory")]


@settings(max_examples=40, deadline=None)
@given(
    config=st.sampled_from(["veps", "residual", "bias"]),
    steps=st.lists(st.sampled_from([*REPEATABLE, *CALLS, *CALLS]), min_size=2, max_size=10),
)
def test_any_sequence_of_writes_and_calls_is_that_of_a_model_that_keeps_nothing(
    config: str, steps: list[str]
) -> None:
    model, twin = shared(config), shared(config)
    with torch.no_grad():
        for step in steps:
            if step in WRITES:
                for each in (model, twin):
                    WRITES[step](each, require_bank(each))
                continue
            embshare.release(twin)
            found, wanted = CALLS[step](model), CALLS[step](twin)
            torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True, msg=step)
