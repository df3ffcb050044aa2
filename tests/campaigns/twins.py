"""A shared model beside the plain one that must compute the same, kept by slow and obvious means.

The twin's derived weights are written element by element by the rule of the conformance suite, in
float64, from the numbers that the shared model stores; gains and spreads are those that were noted
when the model was made.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig, SharePlan
from embshare.errors import EmbshareWarning
from embshare.runtime.bank import require_bank
from embshare.runtime.factorized import is_factored
from embshare.runtime.loading import bank_name
from embshare.runtime.shared_layers import derived_names
from tests._support.layer_examples import EXAMPLES, Example
from tests._support.reference import reference_columns, reference_weight

__all__ = [
    "CONFIGS",
    "FAILS",
    "FINE",
    "Subject",
    "alarmed",
    "answer",
    "fits",
    "make",
    "same_outputs",
]

CONFIGS: Final = {
    "veps": ShareConfig(),
    "untied": ShareConfig(tie="none", column_bias=True, order="column"),
    "factor": ShareConfig(factor=5),
    "relaxed": ShareConfig(gain="channel", residual_rank=2),
    "anchor": ShareConfig(anchor=2.0, tie="sequence:2"),
    "learned": ShareConfig(gain="learned", tie="cycle:2", factor=7, column_bias=True),
    "everything": ShareConfig(
        gain="channel", residual_rank=1, anchor=1.0, factor=6, order="column", column_bias=True
    ),
    "eps": ShareConfig(method="eps", anchor=0.5),
    "own": ShareConfig(method="own"),
    "own, relaxed": ShareConfig(method="own", tie="cycle:2", gain="channel", residual_rank=1),
}
FINE: Final = frozenset(("growth", "unused-columns", "uneven", "cast", "constant"))
"""Kinds of findings that are true of healthy toys: small, and written or cast as programs do."""


@contextmanager
def alarmed(*expected: type[Warning]) -> Iterator[None]:
    """Have each warning of the library raise, but those that are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", EmbshareWarning)
        for kind in expected:
            warnings.simplefilter("ignore", kind)
        yield


FAILS: Final = (RuntimeError, NotImplementedError, ValueError)
"""What torch raises where types clash, or a kernel is missing."""
_fitting: dict[tuple[str, str], bool] = {}


def fits(example: Example, name: str) -> bool:
    """Whether an example can be shared so: EPS needs enough columns, residuals small ranks."""
    key = (example.name, name)
    if key not in _fitting:
        try:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make(example, name, 0)
            _fitting[key] = True
        except embshare.EmbshareError:
            _fitting[key] = False
    return _fitting[key]


def build(example: Example, seed: int) -> nn.Module:
    """A dense model of an example."""
    torch.manual_seed(seed)
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
    ):  # what the older weight norm computes is copied
        warnings.simplefilter("ignore")
        return example.build().eval()


def make(example: Example, name: str, seed: int) -> Subject:
    """A shared model and its twin, from one random start."""
    model = build(example, seed)
    plain = copy.deepcopy(model)
    config = CONFIGS[name].model_copy(update={"include": example.include})
    with alarmed(embshare.errors.GrowthWarning, embshare.errors.UnevenCoverageWarning):
        plan = embshare.plan_sharing(model, config, rules=example.rules)
        embshare.share_from_embedding(model, plan)
    return Subject(example, name, model, plain, noted(plan))


Noted = dict[str, tuple[float, float]]
"""Name of a derived weight -> its gain, and the spread of its table."""


def noted(plan: SharePlan) -> Noted:
    """Measured numbers of a plan; as float32, in which a model has them."""
    spreads = [source.spread for source in plan.sources] or [0.0]
    return {
        name: (
            rounded(slot.gain),
            rounded(spreads[slot.material]),
        )
        for slot in plan.slots
        for name in slot.weights
    }


def rounded(value: float) -> float:
    """To float32."""
    return torch.tensor(value, dtype=torch.float32).item()


def answer(example: Example, model: Callable[..., Any]) -> Tensor:
    """What a model of an example computes for its input."""
    found: Any = model(**example.inputs)
    scores: Tensor = found if isinstance(found, Tensor) else found.logits
    return scores


def same_outputs(found: Tensor, wanted: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether two outputs are equal to the last bit; where they are not, they are close.

    Both come from the very same weights. What may differ is the order of a sum: a weight that
    lies transposed in memory goes to another kernel, and a factorised table is multiplied from
    the other side. Each layer then adds some roundings; 64 of the largest output hold the deepest
    example, and are 200 times less than what a program's smallest write changes in float32.
    """
    assert found.dtype is wanted.dtype and found.shape == wanted.shape
    if torch.equal(found, wanted):
        return True
    eps = torch.finfo(dtype or found.dtype).eps
    most = float(wanted.detach().float().abs().amax())
    difference = float((found.detach().double() - wanted.detach().double()).abs().amax())
    assert difference <= 64 * eps * max(most, 1.0), f"outputs differ by {difference:.3g} of {most}"
    return False


@dataclass(eq=False)
class Subject:
    """A shared model, its twin, and what was noted about it."""

    example: Example
    config: str
    model: Any
    plain: Any
    noted: Noted
    frozen: set[str] = field(default_factory=set)
    """Names of derived weights that were frozen."""
    replaced: set[str] = field(default_factory=set)
    """Paths of modules that were replaced."""
    seen: Tensor | None = None
    """What it last answered; stays so while nobody acts on it."""
    _known: tuple[list[Tensor], dict[str, tuple[Tensor, Tensor]]] | None = None

    def copied(self, model: nn.Module) -> Subject:
        """The subject of a copy of the model."""
        for module in self.plain.modules():  # what the older weight norm computed, with its graph
            own = module.__dict__.items()
            stale = {n: t.detach() for n, t in own if isinstance(t, Tensor) and not t.is_leaf}
            module.__dict__.update(stale)
        twin = copy.deepcopy(self.plain)
        return Subject(
            self.example,
            self.config,
            model,
            twin,
            dict(self.noted),
            set(self.frozen),
            set(self.replaced),
        )

    # ------------------------------------------------------------------ names

    def derived(self) -> dict[str, tuple[nn.Module, str]]:
        """Names, as of the dense model, of what is derived now: the layer and its attribute."""
        found = {}
        for name, _ in self.plain.named_parameters(remove_duplicate=False):
            path, _, leaf = name.rpartition(".")
            layer = self.model.get_submodule(path)
            if leaf in derived_names(layer):
                found[name] = (layer, leaf)
        return found

    def layers(self) -> list[str]:
        """Paths of layers with derived weights, without the insides of a parametrization."""
        paths = (name.rpartition(".")[0] for name in self.derived())
        return list(dict.fromkeys(path.partition(".parametrizations")[0] for path in paths))

    def table(self) -> tuple[nn.Module, str]:
        """The module of the table, and its path; of the first embedding where none is read."""
        sources = require_bank(self.model).plan.sources
        found = (n for n, m in self.model.named_modules() if isinstance(m, nn.Embedding))
        name = sources[0].name.rpartition(".")[0] if sources else next(found)
        return self.model.get_submodule(name), name

    def padding(self) -> int | None:
        """The row of the table that no derived weight moves."""
        columns = require_bank(self.model).columns
        return columns[0].padding_row() if columns else None

    def tied(self) -> list[nn.Module]:
        """All modules that hold the table."""
        owner, _ = self.table()
        table = owner._parameters["weight"]
        return [m for m in self.model.modules() if m._parameters.get("weight") is table]

    # ------------------------------------------------------------------ the rule

    def dense(self, value: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Every parameter of the dense model from what is stored.

        Args:
            value: of a stored tensor, as it is to be computed with.
        """
        bank = require_bank(self.model)
        sources: dict[int, Tensor] = {}
        for number, source in enumerate(bank.plan.sources):
            owner = self.model.get_submodule(source.name.rpartition(".")[0])
            spread = next(iter(self.noted.values()))[1]
            plan = bank.plan.model_copy(
                update={"sources": (source.model_copy(update={"spread": spread}),) * (number + 1)}
            )
            stored = owner._parameters["weight"], bank.columns[number].projection
            inputs = [None if t is None else value(t) for t in (*stored, bank.columns[number].bias)]
            assert inputs[0] is not None
            sources[number] = reference_columns(plan, number, inputs[0], inputs[1], inputs[2])
        blocks: dict[tuple[int, float], Tensor] = {}
        found = {}
        derived = self.derived()
        for name, _ in self.plain.named_parameters(remove_duplicate=False):
            path, _, leaf = name.rpartition(".")
            module = self.model.get_submodule(path)
            if name not in derived:
                found[name] = stored_as(module, leaf, value)
                continue
            reader = derived_names(module)[leaf]
            number = bank.readers[reader].slot
            slot = bank.plan.slots[number].model_copy(update={"gain": self.noted[name][0]})
            key = (number, slot.gain)
            if key not in blocks and slot.source is None:
                own = self.model.get_parameter(f"{bank_name(self.model)}.blocks.{number}")
                blocks[key] = value(own) * slot.gain
            elif key not in blocks and slot.source is not None:
                rows = bank.plan.sources[slot.source].rows
                order = bank.plan.config.order
                blocks[key] = reference_weight(slot, sources[slot.source], rows, order)
            found[name] = relaxed(bank, reader, blocks[key], value)
        return found

    def _bounded(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name of a derived weight: it in float64, and what its terms sum to without signs."""
        stored = [t.detach() for t in self.model.parameters()]
        if self._known is not None and len(stored) == len(self._known[0]):
            if all(alike(a, b) for a, b in zip(stored, self._known[0], strict=True)):
                return self._known[1]
        exact = self.dense(lambda t: t.detach().double())
        signs = require_bank(self.model).plan.config.anchor * next(iter(self.noted.values()))[1]
        tables = {id(m._parameters["weight"]) for m in self.tied()}

        def size(t: Tensor) -> Tensor:
            return t.detach().double().abs() + (signs if id(t) in tables else 0.0)

        large = self._without_anchor().dense(size)
        names = self.derived()
        found = {name: (exact[name], large[name]) for name in names}
        self._known = ([t.clone() for t in stored], found)
        return found

    def _without_anchor(self) -> Subject:
        """As it is, with a spread of zero: `size` has added the anchor's share."""
        bare = {name: (gain, 0.0) for name, (gain, _) in self.noted.items()}
        return Subject(self.example, self.config, self.model, self.plain, bare)

    # ------------------------------------------------------------------ looking

    def weights(self) -> dict[str, Tensor]:
        """Derived weights as the model gives them, each compared with the rule.

        A sum of n products differs from the exact one by at most about n roundings of the sum of
        their magnitudes; 16 more are for gains, residuals, the anchor and casts.
        """
        found = {}
        bounded = self._bounded() if self.derived() else {}
        bank = require_bank(self.model)
        for name, (layer, leaf) in self.derived().items():
            weight = getattr(layer, leaf).detach().as_subclass(Tensor)
            exact, large = bounded[name]
            slot = bank.readers[derived_names(layer)[leaf]].slot
            kinds = (weight.dtype, bank.material(slot).dtype(slot))
            eps = max(torch.finfo(kind).eps for kind in kinds)
            least = max(torch.finfo(kind).smallest_normal for kind in kinds)
            terms = max((source.stored_dim for source in bank.plan.sources), default=0) + 16
            off = (weight.double() - exact).abs() - terms * (eps * large + least)
            assert weight.shape == exact.shape, f"{name} has another shape"
            assert bool((off <= 0).all()), f"{name} is off by {float(off.amax()):.3g} too much"
            found[name] = weight
        return found

    @torch.no_grad()
    def refresh(self) -> Any:
        """The twin, with what the model has now: parameters, buffers, modes."""
        weights = self.weights()
        for name, parameter in self.plain.named_parameters(remove_duplicate=False):
            path, _, leaf = name.rpartition(".")
            module = self.model.get_submodule(path)
            value = weights[name] if name in weights else stored_as(module, leaf, lambda t: t)
            parameter.data = value.detach().clone()
        for name, buffer in self.plain.named_buffers():
            buffer.data = self.model.get_buffer(name).detach().clone()
        for name, module in self.plain.named_modules():
            module.training = self.model.get_submodule(name).training
        return self.plain


def stored_as(module: nn.Module, leaf: str, value: Callable[[Tensor], Tensor]) -> Tensor:
    """A parameter as the dense model has it: of a factorised table, the product."""
    own = module._parameters[leaf]
    assert own is not None
    if leaf == "weight" and is_factored(module):
        wide: Tensor = value(own) @ value(module.__dict__["_embshare_factor"].weight).t()
        return wide
    return value(own)


def relaxed(bank: Any, reader: int, block: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    """``gain * block + left @ right`` of one weight."""
    if not len(bank.relaxations):
        return block
    own = bank.relaxations[reader]
    found = block if own.gain is None else block * value(own.gain)
    if own.left is None:
        return found
    return found + (value(own.left) @ value(own.right)).view(block.shape)


def alike(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit, and of one type."""
    return a.dtype is b.dtype and torch.equal(a, b)


def values(model: nn.Module) -> Mapping[str, Tensor]:
    """Clones of all that a model stores."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def examples() -> list[tuple[Example, str]]:
    """Every layer kind and model with every config."""
    return [(example, name) for example in EXAMPLES for name in CONFIGS]
