"""`verify`: share, run, train, save, load and materialize a model, each step checked on numbers."""

from __future__ import annotations

import copy
import math
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn

import embshare
from embshare._tables import render
from embshare.adapters.errors import InputsError
from embshare.adapters.inputs import call, candidates, find_inputs, score
from embshare.config import ShareConfig
from embshare.errors import EmbshareError
from embshare.plan.planner import plan_sharing
from embshare.plan.slots import Slot
from embshare.plan.tying import pattern_of
from embshare.plan.values import SharePlan

__all__ = ["Planner", "Step", "Verification", "verify"]

RATE: Final = 0.01
"""Learning rate of each training step."""
STEPS: Final = 3
"""Training steps at most: one, and more where a gate has to open first."""
ROUNDING: Final = 1e-4
"""Relative, of a loss: dense layers may add up in another order."""
DRAWS: Final = 4
"""Random changes of last bits, where a model turns them into more than `ROUNDING`."""
ODD: Final = 3
"""Fills the model that a checkpoint is loaded into: whatever the folder lacks shows."""

Loss = Callable[[nn.Module], Tensor]


class Planner(Protocol):
    """`plan_sharing`, or that of a family of models."""

    def __call__(self, model: nn.Module, config: ShareConfig) -> SharePlan: ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """Outcome of one step."""

    name: str
    outcome: Literal["ok", "failed", "not reached"]
    finding: str = ""
    """The error in one line."""
    hint: str = ""
    """Way to solve it, where the finding does not say so."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of `verify`; ``str()`` is a table."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """Remarks that are not errors."""
    plan: SharePlan | None = None
    """``None`` where planning failed or was not reached."""
    parameters: int = 0
    """Elements of the dense model's parameters."""

    @property
    def failed(self) -> Step | None:
        """The step that failed, if one did."""
        return next((step for step in self.steps if step.outcome == "failed"), None)

    def __str__(self) -> str:
        table = Table("step", "outcome", "seconds", "finding and hint", box=box.SIMPLE)
        for step in self.steps:
            finding = " ".join(filter(None, [step.finding, step.hint]))
            table.add_row(step.name, step.outcome, f"{step.seconds:.1f}", finding)
        return "\n".join([render(table), *(f"Note: {note}." for note in self.notes)])


def verify(
    model: nn.Module | Callable[[], nn.Module],
    config: ShareConfig | SharePlan | None = None,
    *,
    inputs: object = None,
    loss: Loss | None = None,
    planner: Planner = plan_sharing,
    until: str = "materialize",
) -> Verification:
    """Share copies of a model and check what becomes of them; the model itself is not touched.

    The dense model is run and trained first, so that its own errors are not taken for those of
    sharing. Then a shared copy is run and takes a training step, which must change its loss and
    every derived weight; is saved and loaded, and must come back equal to the bit; and is
    materialized, with equal weights to the bit and the names of the dense model.

    Args:
        model: dense, or a function that builds it anew where it cannot be copied.
        config: sharing settings, or a plan that was made for this model.
        inputs: inputs of the model: a tensor, a list or tuple of arguments, or a mapping
            of keyword arguments. ``None`` makes a small batch of what models of this kind take.
        loss: runs the model and returns a scalar to go down; ``None`` takes a fixed linear function
            of all that the model returns for the inputs.
        planner: makes the plan, e.g. with the layer kinds of a family.
        until: name of the last step.
    Returns:
        One step each, also for what failed: no error of the model or of sharing is raised.
    """
    build = partial(copy.deepcopy, model) if isinstance(model, nn.Module) else model
    steps: list[Step] = []
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        run = _Run(build, config or ShareConfig(), planner, inputs, loss, Path(folder))
        for name, act in run.steps().items():
            if steps and steps[-1].name == until:
                break
            failed = bool(steps) and steps[-1].outcome != "ok"
            steps.append(Step(name=name, outcome="not reached") if failed else _step(name, act))
    return Verification(
        steps=tuple(steps), notes=tuple(run.notes), plan=run.plan, parameters=run.parameters
    )


_OURS: Final = "That should not be: please report it. `exclude` leaves a weight dense."
_THEIRS: Final = "The dense model fails on these inputs, sharing apart: mend it, or give others."
HINTS: Final[Mapping[str, str]] = {
    "build": "Call it in Python. A model that cannot be copied can be given as a function.",
    "run dense": _THEIRS,
    "train dense": _THEIRS,
}


def _step(name: str, act: Callable[[], None]) -> Step:
    begun, error = time.perf_counter(), None
    try:
        act()
    except Exception as raised:  # whatever the code of a model does
        error = raised
    seconds = round(time.perf_counter() - begun, 2)
    if error is None:
        return Step(name=name, outcome="ok", seconds=seconds)
    hint = "" if isinstance(error, EmbshareError) else HINTS.get(name, _OURS)
    finding = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(": ")
    return Step(name=name, outcome="failed", finding=finding, hint=hint, seconds=seconds)


@dataclass
class _Run:
    """State that one step passes to the next."""

    make: Callable[[], nn.Module]
    config: ShareConfig | SharePlan
    planner: Planner
    inputs: object
    loss_of: Loss | None
    folder: Path
    notes: list[str] = field(default_factory=list)
    plan: SharePlan | None = None
    parameters: int = 0
    names: Set[str] = frozenset()
    """Keys of the dense state dict."""
    repeatable: bool = True
    """Whether two runs of the dense model are equal, so that outputs can be compared."""
    training: bool = True
    """Whether it is trained in training mode."""

    dense: nn.Module = field(init=False)
    shared: nn.Module = field(init=False)
    loaded: nn.Module = field(init=False)

    def steps(self) -> Mapping[str, Callable[[], None]]:
        """Name of a step -> what is done."""
        return {
            "build": self._build,
            "plan": self._plan,
            "run dense": self._run_dense,
            "train dense": self._train_dense,
            "share": self._share,
            "run": self._run,
            "train": self._train,
            "save": self._save,
            "load": self._load,
            "materialize": self._materialize,
        }

    def built(self) -> nn.Module:
        """The dense model anew, in evaluation mode."""
        torch.manual_seed(0)
        return self.make().eval()

    def loss(self, model: nn.Module) -> float:
        """Loss of one call without gradients; random numbers in it are the same each time."""
        torch.manual_seed(2)
        with torch.no_grad():
            loss = float(self.scored(model))
        if not math.isfinite(loss):
            raise ValueError(f"its loss is {loss}")
        return loss

    def scored(self, model: nn.Module) -> Tensor:
        """The loss as a tensor."""
        if self.loss_of is not None:
            return self.loss_of(model)
        return score(call(model, self.inputs))

    def _build(self) -> None:
        self.dense = self.built()
        self.parameters = sum(parameter.numel() for parameter in self.dense.parameters())
        self.names = self.dense.state_dict().keys()

    def _plan(self) -> None:
        given = self.config
        self.plan = given if isinstance(given, SharePlan) else self.planner(self.dense, given)

    def _run_dense(self) -> None:
        if self.loss_of is None and self.inputs is None:
            self.inputs = find_inputs(self.dense, candidates(self.dense))
        first = self.loss(self.dense)
        self.repeatable = self.loss(self.dense) == first
        if not self.repeatable:
            self.notes.append("two runs of the dense model differ, so no outputs are compared")

    def _train_dense(self) -> None:
        """Some can be trained in evaluation mode alone."""
        try:
            self._backward(self.dense)
        except Exception:
            self.training = False
            self._backward(self.dense)
        del self.dense  # large models have no room for two

    def _backward(self, model: nn.Module) -> None:
        model.zero_grad()
        model.train(self.training)
        try:
            torch.manual_seed(2)
            self.scored(model).backward()
            if all(parameter.grad is None for parameter in model.parameters()):
                raise ValueError("no parameter gets a gradient")
        finally:
            model.eval()

    def _share(self) -> None:
        model = self.built()
        torch.manual_seed(3)
        self.shared = embshare.share_from_embedding(model, self.plan)

    def _run(self) -> None:
        self.loss(self.shared)

    def _train(self) -> None:
        """A step: the loss and every slot's weight must be others after it.

        Where a gate is closed at the start, what lies behind it gets no gradient, derived or not.
        So a slot that stays as it is fails only if one of its weights moves in the dense model.
        """
        assert self.plan is not None
        before, start = self.loss(self.shared), _first_weights(self.shared, self.plan)
        still: list[Slot] = []
        for steps in range(1, STEPS + 1):
            self._backward(self.shared)
            _check_gradients(self.shared, self.plan)
            _descend(self.shared)
            if steps == 1 and self.loss(self.shared) == before:
                self._check_answer()
            now = _first_weights(self.shared, self.plan)
            still = [s for s in self.plan.slots if now[s.weights[0]] == start[s.weights[0]]]
            if not still:
                return
            self._check_still(still, steps)
        kept = ", ".join(dict.fromkeys(pattern_of(slot.weights[0]) for slot in still))
        self.notes.append(
            f"{STEPS} steps change these in the dense model no more than here: {kept}"
        )

    def _check_answer(self) -> None:
        """Sharing is at fault only if a step changes what the dense model returns.

        A random start may explode in evaluation mode, and `score` cuts off what is too large.
        """
        dense = self.built()
        before = self.loss(dense)
        self._backward(dense)
        _descend(dense)
        if self.loss(dense) != before:
            raise ValueError("a step did not change what it returns")
        raise InputsError(
            place=type(dense).__name__,
            finding="a step did not change what it returns, neither shared nor dense, so that "
            "these inputs show nothing of training",
            hint="Give others, or trained weights.",
        )

    def _check_still(self, still: Iterable[Slot], steps: int) -> None:
        dense = self.built()
        start = {name: _digest(parameter) for name, parameter in _parameters(dense)}
        for _ in range(steps):
            self._backward(dense)
            _descend(dense)
        moved = {name for name, p in _parameters(dense) if _digest(p) != start[name]}
        for slot in still:
            if not moved.isdisjoint(slot.weights):
                raise ValueError(f"a step did not change `{slot.weights[0]}`")

    def _save(self) -> None:
        embshare.save(self.shared, self.folder)

    def _load(self) -> None:
        """Into a model of other values: everything has to come from the folder."""
        empty = self.built()
        with torch.no_grad():
            for value in _tensors(empty).values():
                if value.is_floating_point() and 0 not in value.stride():
                    value.fill_(ODD)
        self.loaded = embshare.load(self.folder, empty).eval()
        found, wanted = _tensors(self.loaded), _tensors(self.shared)
        _check_names(found.keys(), wanted.keys())
        for name, value in wanted.items():
            if _digest(found[name]) != _digest(value):
                raise ValueError(f"`{name}` differs from what was saved")
        loss, before = self.loss(self.loaded), self.loss(self.shared)
        if self.repeatable and loss != before:
            raise ValueError(f"its loss is {loss}, not {before}")

    def _materialize(self) -> None:
        """Weights equal to the bit, and the names that the dense model has."""
        assert self.plan is not None
        wanted = self.loss(self.loaded)
        weights = {name: _digest(_read(self.loaded, name)) for name in self.plan.weights()}
        plain = embshare.materialize(self.loaded, inplace=True)
        for name, weight in weights.items():
            if _digest(plain.get_parameter(name)) != weight:
                raise ValueError(f"`{name}` differs")
        _check_names(plain.state_dict().keys(), self.names)
        loss = self.loss(plain)
        if not self.repeatable or math.isclose(loss, wanted, rel_tol=ROUNDING, abs_tol=ROUNDING):
            return
        if abs(loss - wanted) > self._amplified(plain, loss):
            raise ValueError(f"its loss is {loss}, not {wanted}")
        self.notes.append(
            "amplifies rounding: dense and shared differ by as much as its weights' last bits"
        )

    def _amplified(self, model: nn.Module, loss: float) -> float:
        """Measure the change of a loss under rounding of all weights; changes the model."""
        moved, numbers = [], torch.Generator().manual_seed(4)
        for _ in range(DRAWS):
            with torch.no_grad():
                for parameter in model.parameters():
                    signs = torch.randn(parameter.shape, generator=numbers).sign().to(parameter)
                    parameter.addcmul_(parameter, signs, value=torch.finfo(parameter.dtype).eps)
            moved.append(abs(self.loss(model) - loss))
        return max(moved)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Any] = model.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _check_names(found: Set[str], wanted: Set[str]) -> None:
    if odd := sorted(found ^ wanted):
        raise ValueError(f"`{odd[0]}` is in one state dict alone")


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Under all of their names."""
    return model.named_parameters(remove_duplicate=False)


@torch.no_grad()
def _descend(model: nn.Module) -> None:
    """Step by the sign of each gradient, so that every element changes."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.sub_(parameter.grad.sign(), alpha=RATE)


def _first_weights(model: nn.Module, plan: SharePlan) -> dict[str, int]:
    """One derived weight of each slot, by name, as a number that tells it from others."""
    with torch.no_grad(), embshare.cached(model):
        return {slot.weights[0]: _digest(_read(model, slot.weights[0])) for slot in plan.slots}


def _digest(tensor: Tensor) -> int:
    """Large models have no room for copies."""
    values = tensor.detach().cpu().flatten().contiguous()
    return zlib.crc32(values.view(torch.uint8).numpy().data)


def _read(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    weight: Tensor = getattr(model.get_submodule(owner), leaf)
    return weight


def _check_gradients(shared: nn.Module, plan: SharePlan) -> None:
    for source in plan.sources:
        table = shared.get_parameter(source.name)
        gradient = table.grad
        if not table.requires_grad:  # frozen by the model itself; the projection learns
            continue
        if gradient is None or not gradient.isfinite().all():
            fault = "absent" if gradient is None else "not finite"
            raise ValueError(f"the gradient of `{source.name}` is {fault}")
