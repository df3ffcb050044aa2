"""One architecture examined: the dense model first, so that a fault of its own is not ours."""

from __future__ import annotations

import math
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

import embshare
from embshare.errors import NoSourceError
from embshare.plan.inventory import LOOKED_UP, UNKNOWN
from embshare.plan.layer_rules import Rules
from embshare.plan.slots import LeftDense, Slot
from embshare.plan.tying import pattern_of
from embshare.plan.values import SharePlan
from embshare.tasks.coverage.row import Kept, Outcome, Row

__all__ = ["Subject", "examine"]

RATE: Final = 0.01
"""Of each step that is trained."""
STEPS: Final = 3
"""That are trained at most: one, and more where a gate has to open first."""
ROUNDING: Final = 1e-4
"""Relative, of a loss: plain layers may add up in another order."""
DRAWS: Final = 4
"""Of last bits, where a model makes more of them than that."""


class Subject(Protocol):
    """What is examined: an architecture made tiny."""

    @property
    def library(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def build(self) -> Callable[[], nn.Module]: ...
    @property
    def loss(self) -> Callable[[nn.Module], Tensor]: ...
    @property
    def source(self) -> str | Mapping[str, str]: ...
    @property
    def rules(self) -> Rules: ...
    @property
    def skip(self) -> str | None: ...


class _EndedError(Exception):
    """The examination ends here."""

    def __init__(self, outcome: Outcome, stage: str, finding: str) -> None:
        super().__init__(finding)
        self.outcome, self.stage, self.finding = outcome, stage, finding


def examine(subject: Subject) -> Row:
    """Build, run, share, train a step, save, load and make plain.

    Every claim is checked on numbers: losses finite, another loss after a step and other derived
    weights, the same loss to the bit after loading, the same weights to the bit when made plain.

    Returns:
        What came out; no error of the architecture or of sharing leaves this function.
    """
    begun = time.perf_counter()
    found: dict[str, Any] = {}
    outcome: Outcome = "passes"
    try:
        if subject.skip is not None:
            raise _EndedError("not run", "building", subject.skip)
        _examine(subject, found)
    except _EndedError as ended:
        outcome = ended.outcome
        found |= {"stage": ended.stage, "finding": ended.finding}
    return Row(
        library=subject.library,
        name=subject.name,
        outcome=outcome,
        seconds=round(time.perf_counter() - begun, 2),
        **found,
    )


def _examine(subject: Subject, found: dict[str, Any]) -> None:
    with _stage("building", "not run"):
        dense = _build(subject, seed=0)
    found["parameters"] = sum(parameter.numel() for parameter in dense.parameters())
    _look_for_table(subject, dense)
    with _stage("running", "not run"):
        start = _loss(subject, dense)
        repeatable = _loss(subject, dense) == start
    with _stage("training", "not run"):
        training = _training_mode(subject, dense)
    names = dense.state_dict().keys()
    del dense
    if not repeatable:
        _note(found, "two runs of the dense model differ, so no outputs are compared")
    _train(subject, *_share(subject, "none"), training)
    shared, plan = _share(subject, "all")
    if still := _train(subject, shared, plan, training):
        kept = ", ".join(dict.fromkeys(map(pattern_of, still)))
        _note(found, f"{STEPS} steps change these in the dense model no more than here: {kept}")
    found |= _counted(plan)
    with _stage("saving and loading", "fails"):
        loaded = _save_and_load(subject, shared, repeatable, found)
    with _stage("making plain", "fails"):
        _make_plain(subject, loaded, plan, names, repeatable, found)


def _note(found: dict[str, Any], note: str) -> None:
    found["notes"] = (*found.get("notes", ()), note)


@contextmanager
def _stage(name: str, outcome: Outcome) -> Iterator[None]:
    """Whatever goes wrong inside ends the examination."""
    try:
        yield
    except _EndedError:
        raise
    except Exception as error:
        raise _EndedError(outcome, name, _told(error)) from error


def _told(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(": ")


def _build(subject: Subject, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return subject.build().eval()


def _plan(subject: Subject, model: nn.Module, tie: str) -> SharePlan:
    source = subject.source if isinstance(subject.source, str) else dict(subject.source)
    include = ("*", *embshare.bare_weights(model, rules=subject.rules))
    config = embshare.ShareConfig(source=source, tie=tie, include=include)
    try:
        return embshare.plan_sharing(model, config, rules=subject.rules)
    except NoSourceError as error:
        raise _EndedError("no table", "planning", _told(error)) from error


def _look_for_table(subject: Subject, dense: nn.Module) -> None:
    """Before anything else, a model without one is refused.

    Any other fault of planning is told when the dense model is known to run.
    """
    try:
        _plan(subject, dense, "all")
    except _EndedError:
        raise
    except Exception:
        return


def _loss(subject: Subject, model: nn.Module) -> float:
    """Of one call without gradients; random numbers in it are the same each time."""
    torch.manual_seed(2)
    with torch.no_grad():
        loss = float(subject.loss(model))
    if not math.isfinite(loss):
        raise ValueError(f"its loss is {loss}")
    return loss


def _training_mode(subject: Subject, dense: nn.Module) -> bool:
    """Whether it trains in training mode; some can only do so in evaluation mode."""
    for mode in (True, False):
        try:
            _backward(subject, dense, mode)
        except Exception:
            if not mode:
                raise
        else:
            return mode
    raise AssertionError


def _backward(subject: Subject, model: nn.Module, mode: bool) -> None:
    model.zero_grad()
    model.train(mode)
    try:
        torch.manual_seed(2)
        subject.loss(model).backward()
        if all(parameter.grad is None for parameter in model.parameters()):
            raise ValueError("no parameter gets a gradient")
    finally:
        model.eval()


def _share(subject: Subject, tie: str) -> tuple[nn.Module, SharePlan]:
    with _stage("planning", "fails"):
        model = _build(subject, seed=0)
        plan = _plan(subject, model, tie)
    with _stage("sharing", "fails"):
        torch.manual_seed(3)
        return embshare.share_from_embedding(model, plan), plan


def _train(subject: Subject, shared: nn.Module, plan: SharePlan, training: bool) -> tuple[str, ...]:
    """A step: the loss and every slot's weight must be others after it.

    Where a gate is closed at the start, what lies behind it gets no gradient, derived or not. So
    a slot that stays as it is fails only if one of its weights moves in the dense model.

    Returns:
        What stays as it is in both after `STEPS` steps.
    """
    with _stage("running shared", "fails"):
        before = _loss(subject, shared)
        start = _first_weights(shared, plan)
    with _stage("training shared", "fails"):
        still: list[Slot] = []
        for steps in range(1, STEPS + 1):
            _backward(subject, shared, training)
            _check_gradients(shared, plan)
            _step(shared)
            if steps == 1 and _loss(subject, shared) == before:
                raise ValueError("a step did not change what it returns")
            now = _first_weights(shared, plan)
            still = [s for s in plan.slots if now[s.weights[0]] == start[s.weights[0]]]
            if not still:
                break
            _check_still(still, _moved(subject, steps, training))
    return tuple(slot.weights[0] for slot in still)


def _check_still(still: Iterable[Slot], moved: Set[str]) -> None:
    for slot in still:
        if not moved.isdisjoint(slot.weights):
            raise ValueError(f"a step did not change `{slot.weights[0]}`")


def _moved(subject: Subject, steps: int, training: bool) -> Set[str]:
    """Parameters of the dense model that are others after some steps."""
    dense = _build(subject, seed=0)
    start = {name: _digest(p.detach()) for name, p in _parameters(dense)}
    for _ in range(steps):
        _backward(subject, dense, training)
        _step(dense)
    return {name for name, p in _parameters(dense) if _digest(p.detach()) != start[name]}


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Under all of their names."""
    return model.named_parameters(remove_duplicate=False)


@torch.no_grad()
def _step(model: nn.Module) -> None:
    """By the sign of each gradient: whatever its size, every element moves."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.sub_(parameter.grad.sign(), alpha=RATE)


def _first_weights(model: nn.Module, plan: SharePlan) -> dict[str, int]:
    """One derived weight of each slot, by name, as a number that tells it from others."""
    with torch.no_grad(), embshare.cached(model):
        return {slot.weights[0]: _digest(_read(model, slot.weights[0])) for slot in plan.slots}


def _digest(weight: Tensor) -> int:
    """Large models have no room for copies."""
    return zlib.crc32(weight.flatten().view(torch.uint8).numpy().data)


def _read(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    weight: Tensor = getattr(model.get_submodule(owner), leaf)
    return weight.detach()


def _check_gradients(shared: nn.Module, plan: SharePlan) -> None:
    for source in plan.sources:
        table = shared.get_parameter(source.name)
        gradient = table.grad
        if not table.requires_grad:  # frozen by the model itself; the projection learns
            continue
        if gradient is None or not gradient.isfinite().all():
            fault = "absent" if gradient is None else "not finite"
            raise ValueError(f"the gradient of `{source.name}` is {fault}")


def _save_and_load(
    subject: Subject, shared: nn.Module, repeatable: bool, found: dict[str, Any]
) -> nn.Module:
    """Into a model of another random start: everything has to come from the folder."""
    wanted = _loss(subject, shared)
    with tempfile.TemporaryDirectory() as folder:
        embshare.save(shared, folder)
        loaded = embshare.load(folder, _build(subject, seed=1)).eval()
        if not repeatable or _loss(subject, loaded) == wanted:
            return loaded
        loaded = embshare.load(folder, _build(subject, seed=0)).eval()
        if _loss(subject, loaded) != wanted:
            raise ValueError(f"its loss is {_loss(subject, loaded)}, not {wanted}")
    if _keeps_all(subject):
        raise ValueError("what it returns depends on the model that it is loaded into")
    _note(found, "holds random numbers that its own state dict lacks")
    return loaded


def _keeps_all(subject: Subject) -> bool:
    """Whether a dense model's own state dict makes another one equal to it."""
    first, second = _build(subject, seed=0), _build(subject, seed=1)
    second.load_state_dict(first.state_dict())
    return _loss(subject, first) == _loss(subject, second)


def _make_plain(
    subject: Subject,
    shared: nn.Module,
    plan: SharePlan,
    names: Set[str],
    repeatable: bool,
    found: dict[str, Any],
) -> None:
    """Weights equal to the bit, and the names that the dense model has."""
    wanted = _loss(subject, shared)
    weights = {name: _digest(_read(shared, name)) for name in plan.weights()}
    plain = embshare.materialize(shared, inplace=True)
    for name, weight in weights.items():
        if _digest(plain.get_parameter(name).detach()) != weight:
            raise ValueError(f"`{name}` differs")
    if odd := sorted(plain.state_dict().keys() ^ names):
        raise ValueError(f"`{odd[0]}` is in one state dict alone")
    loss = _loss(subject, plain)
    if not repeatable or math.isclose(loss, wanted, rel_tol=ROUNDING, abs_tol=ROUNDING):
        return
    if abs(loss - wanted) > _amplified(subject, plain, loss):
        raise ValueError(f"its loss is {loss}, not {wanted}")
    _note(found, "amplifies rounding: plain and shared differ by as much as its weights' last bits")


def _amplified(subject: Subject, model: nn.Module, loss: float) -> float:
    """By how much a loss moves when the last bits of all weights do; changes the model."""
    moved, numbers = [], torch.Generator().manual_seed(4)
    for _ in range(DRAWS):
        with torch.no_grad():
            for parameter in model.parameters():
                signs = torch.randn(parameter.shape, generator=numbers).sign().to(parameter)
                parameter.addcmul_(parameter, signs, value=torch.finfo(parameter.dtype).eps)
        moved.append(abs(_loss(subject, model) - loss))
    return max(moved)


def _counted(plan: SharePlan) -> dict[str, Any]:
    """What is derived, what is not, and why."""
    tables = [entry for entry in plan.left_dense if entry.reason in (LOOKED_UP, UNKNOWN)]
    dense = [entry for entry in plan.left_dense if entry.reason not in (LOOKED_UP, UNKNOWN)]
    derived = sum(slot.numel * len(slot.weights) for slot in plan.slots)
    return {
        "source": tuple(source.name for source in plan.sources),
        "derived": derived,
        "hidden": derived + sum(entry.numel for entry in dense),
        "dense": tuple(_kept(dense)),
        "tables": tuple(_kept(tables)),
    }


def _kept(entries: Iterable[LeftDense]) -> Iterator[Kept]:
    groups: dict[str, list[LeftDense]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(entry)
    for reason, group in groups.items():
        names = dict.fromkeys(pattern_of(entry.weight) for entry in group)
        elements = sum(entry.numel for entry in group)
        yield Kept(reason=reason, weights=tuple(names), elements=elements)
