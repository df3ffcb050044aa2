"""What programs do with a subject, each with what has to be true afterwards."""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

import embshare
from embshare.errors import (
    FrozenLayerWarning,
    PartCopyWarning,
    StaleCacheWarning,
)
from embshare.runtime.bank import require_bank
from tests.campaigns.twins import (
    FAILS,
    Subject,
    alarmed,
    answer,
    make,
    noted,
    same_outputs,
    values,
)

__all__ = [
    "COPIES",
    "OPTIMIZERS",
    "call_part",
    "copy_part",
    "copy_whole",
    "functional",
    "give_state",
    "keep",
    "materialize",
    "save_and_load",
    "train",
    "wrap",
]

OPTIMIZERS: Final[dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01),
    "foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
}


def _alive(subject: Subject) -> bool:
    """Whether types agree, also of what is derived, and are such as to compute with."""
    found = [*subject.model.parameters(), *subject.weights().values()]
    kinds = {tensor.dtype for tensor in found}
    return len(kinds) == 1 and kinds <= {torch.float32, torch.float64}


def train(subject: Subject, optimizer: str, steps: int) -> bool:
    """Some steps; the first one's gradients are those of the twin by the chain rule."""
    model = subject.model
    if not _alive(subject) or not any(p.requires_grad for p in model.parameters()):
        return False
    made = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
    for step in range(steps):
        made.zero_grad()
        wanted = None if step else _gradients(subject)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        with alarmed(FrozenLayerWarning):
            answer(subject.example, model).square().mean().backward()
        if wanted is not None:
            _compare(model, wanted)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        made.step()
        for name, parameter in model.named_parameters():
            # Where the smallest step is above the rounding of what it is added to.
            step_size = 0.0 if parameter.grad is None else 0.01 * float(parameter.grad.abs().amax())
            eps, most = torch.finfo(parameter.dtype).eps, float(before[name].abs().amax())
            moves = step_size > 8 * eps * most
            moved = not torch.equal(parameter, before[name])
            assert not moved or parameter.requires_grad, f"{name} is frozen and moved"
            assert moved or not moves or step, f"{name} has a gradient and stayed"
    model.zero_grad()
    return True


def _gradients(subject: Subject) -> dict[str, Tensor]:
    """Gradients of what is stored: the twin's, carried through the rule by autograd in float64."""
    twin = subject.refresh()
    asked = {name: p.requires_grad for name, p in twin.named_parameters()}
    twin.requires_grad_(True).zero_grad()
    answer(subject.example, twin).square().mean().backward()
    direct = {
        name: p.grad.double()
        for name, p in twin.named_parameters(remove_duplicate=False)
        if p.grad is not None
    }
    twin.zero_grad()
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(asked[name])
    leaves: dict[int, Tensor] = {
        id(p): p.detach().double().requires_grad_(p.requires_grad)
        for p in subject.model.parameters()
    }
    padding = subject.padding()
    table = id(subject.table()[0]._parameters["weight"])

    def fixed(t: Tensor) -> Tensor:
        leaf = leaves[id(t)]
        if padding is None or id(t) != table or reading[0] != "rule":
            return leaf
        kept = torch.arange(len(leaf)) == padding
        return torch.where(kept.unsqueeze(1), leaf.detach(), leaf)

    derived, total, done = subject.derived(), torch.zeros((), dtype=torch.float64), set[int]()
    for now in ("rule", "use"):
        reading = [now]
        for name, tensor in subject.dense(fixed).items():
            own = twin.get_parameter(name)
            if (name in derived) == (now == "rule") and name in direct and id(own) not in done:
                done.add(id(own))
                total = total + (tensor * direct[name]).sum()
    if total.requires_grad:
        total.backward()
    return {
        name: leaf.grad
        for name, p in subject.model.named_parameters()
        if (leaf := leaves[id(p)]).grad is not None
    }


def _compare(model: Any, wanted: dict[str, Tensor]) -> None:
    """Gradients are sums over tokens, layers and rows: 4,096 roundings of the largest entry."""
    for name, parameter in model.named_parameters():
        found, right = parameter.grad, wanted.get(name)
        if right is None or found is None:
            for only in (found, right):
                assert only is None or not only.abs().amax() > 0, f"{name}: one gradient alone"
            continue
        most = max(float(t.abs().amax()) for t in (right, found))
        most = max(most, 1e-3 * max(float(t.abs().amax()) for t in wanted.values()))
        off = float((found.double() - right).abs().amax())
        assert off <= 4096 * torch.finfo(found.dtype).eps * most, (
            f"the gradient of {name} is off by {off:.3g} of {most:.3g}"
        )


def _by_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def _by_torch(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


COPIES: Final[dict[str, Callable[[Any], Any]]] = {
    "deepcopy": copy.deepcopy,
    "pickle": _by_pickle,
    "torch.save": _by_torch,
}


def copy_whole(subject: Subject, way: str) -> Subject | None:
    """A copy of the model, where the dense one can be copied so."""
    try:
        COPIES[way](subject.plain)
    except Exception:
        return None
    with alarmed():
        model = COPIES[way](subject.model)
    ours = {id(p) for p in subject.model.parameters()}
    assert not any(id(p) in ours for p in model.parameters())
    return subject.copied(model)


def copy_part(subject: Subject, path: str) -> None:
    """A part's copy follows the original, and says so once."""
    with alarmed():
        part = copy.deepcopy(subject.model.get_submodule(path))
    with alarmed(PartCopyWarning):
        for name, (layer, leaf) in subject.derived().items():
            if name.startswith(f"{path}."):
                inside, _, _ = name.removeprefix(f"{path}.").rpartition(".")
                assert torch.equal(
                    getattr(part.get_submodule(inside), leaf), getattr(layer, leaf)
                ), name


def fresh(subject: Subject) -> Any:
    """A dense model of the subject's structure, from another random start."""
    model = subject.copied(subject.model).plain
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def save_and_load(subject: Subject, into: str) -> Subject | None:
    """Save; load into a new dense model, or into the model itself after it went on."""
    with tempfile.TemporaryDirectory() as folder, alarmed():
        embshare.save(subject.model, folder)
        state = values(subject.model)
        if into == "dense":
            made = subject.copied(embshare.load(folder, fresh(subject)))
            made.frozen.clear()  # they are parameters like any others
            made.replaced |= subject.frozen
            return made
        other = copy.deepcopy(subject.model) if into == "copy" else subject.model
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1.0)
        embshare.load(folder, other)
        gone = bool(subject.frozen or subject.replaced)  # what belongs to it is in no file
        for name, tensor in other.state_dict().items():
            left = gone and (".relaxations." in name or name.endswith(".gains"))
            assert left or torch.equal(tensor, state[name]), f"{name} was loaded otherwise"
    return subject.copied(other) if into == "copy" else None


def give_state(subject: Subject, *, assign: bool) -> Subject | None:
    """A state dict for a model of another random start."""
    if subject.frozen or subject.replaced:
        return None
    with alarmed():
        other = make(subject.example, subject.config, 7)
        kinds = {p.dtype for p in subject.model.parameters()}
        rows = [len(m._parameters["weight"]) for m in (subject.table()[0], other.table()[0])]  # type: ignore[arg-type]
        if len(kinds) > 1 or rows[0] != rows[1]:
            return None
        if not assign:
            other.model.to(kinds.pop())
        state = values(subject.model)
        other.model.load_state_dict(state, assign=assign)
        other.model.train(subject.model.training)
        if assign and kinds and kinds.pop() is not torch.float32:
            return None  # layers keep their dtype, which their table no longer has
    other.noted = dict(subject.noted)
    return other


def call_part(subject: Subject, path: str) -> bool:
    """A submodule that is called on its own answers as the twin's does."""
    given, calls = list[Any](), list[Any]()
    part = subject.refresh().get_submodule(path)
    handles = [
        part.register_forward_pre_hook(  # copied, since a cache of keys is written into
            lambda _, args, kwargs: given.append(copy.deepcopy((args, kwargs))), with_kwargs=True
        ),
        part.register_forward_hook(lambda _, args, found: calls.append(found)),
    ]
    with torch.no_grad(), alarmed():
        try:
            answer(subject.example, subject.plain)
        except FAILS:
            return False
        finally:
            for handle in handles:
                handle.remove()
        for (args, kwargs), wanted in [*zip(given, calls, strict=True)][:1]:
            found = subject.model.get_submodule(path)(*args, **kwargs)
            for one, other in zip(_tensors(found), _tensors(wanted), strict=True):
                same_outputs(one, other)
    return bool(calls)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in _tensors(item)]
    return []


def functional(subject: Subject) -> bool:
    """`functional_call` with other numbers computes what a model that has them does."""
    if not _alive(subject):
        return False
    other = subject.copied(copy.deepcopy(subject.model))
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.1).add_(0.02)
    given = {name: p.detach() for name, p in other.model.named_parameters()}
    before = values(subject.model)
    with torch.no_grad(), alarmed():
        found = torch.func.functional_call(subject.model, given, (), dict(subject.example.inputs))
        found = found if isinstance(found, Tensor) else found.logits
        same_outputs(found, answer(other.example, other.refresh()))
    if not subject.model.training:
        after = values(subject.model)
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    return True


def keep(subject: Subject, way: str) -> bool:
    """Calls while weights are kept; a change that torch shows is followed, and warned of."""
    model, example = subject.model, subject.example
    if not _alive(subject):
        return False
    with alarmed(), torch.inference_mode() if way == "inference" else torch.no_grad():
        wanted = answer(example, subject.refresh())
        with embshare.cached(model):
            for _ in range(2):
                same_outputs(answer(example, model), wanted)
                wanted = answer(example, subject.plain)  # train mode moves running means
    embshare.keep(model)
    try:
        with alarmed(StaleCacheWarning), torch.no_grad():
            answer(example, model)
            padding = subject.padding()
            for parameter in model.parameters():
                noise = 0.05 * torch.randn_like(parameter)
                if padding is not None and parameter is subject.table()[0]._parameters["weight"]:
                    noise[padding] = 0  # the rule's gradient is that of a row of zeros
                parameter.add_(noise)
            found = answer(example, model)
    finally:
        embshare.release(model)
    if not model.training:
        with torch.no_grad():
            same_outputs(found, answer(example, subject.refresh()))
    return True


def materialize(subject: Subject, *, inplace: bool) -> None:
    """The plain model: bitwise the weights that were read, classes and order of the dense one."""
    weights = subject.weights()
    target = copy.deepcopy(subject.model) if inplace else subject.model
    with alarmed():
        plain: Any = embshare.materialize(target, inplace=inplace)
    assert (plain is target) == inplace
    own = dict(plain.named_parameters())
    assert list(own) == [name for name, _ in subject.plain.named_parameters()]
    assert plain.state_dict().keys() == subject.plain.state_dict().keys()
    for name, weight in weights.items():
        assert torch.equal(plain.get_parameter(name), weight), f"{name} was materialized otherwise"
    for name, module in subject.plain.named_modules():
        assert type(plain.get_submodule(name)) is type(module), name
    stores = {t.untyped_storage().data_ptr() for t in subject.model.state_dict().values()}
    for name, tensor in plain.state_dict().items():
        alone = inplace or tensor.untyped_storage().data_ptr() not in stores
        assert alone or not tensor.numel(), f"{name} lies in the shared model's memory"


class Around(nn.Module):
    """A parent."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def wrap(subject: Subject, other: Subject | None, way: str) -> bool:
    """What is around a model changes nothing, and every verb looks through it."""
    model, example = subject.model, subject.example
    stored = embshare.summarize(model).stored
    outer: Any
    if way == "compile":
        torch._dynamo.reset()
        outer = torch.compile(model, backend="eager")
    elif way == "dict" and other is not None:
        outer = nn.ModuleDict({"one": model, "two": other.model})
        stored += embshare.summarize(other.model).stored
    else:
        outer = Around(model)
    with alarmed(), torch.no_grad():
        assert embshare.summarize(outer).stored == stored
        twin = subject.refresh()
        try:
            wanted = answer(example, twin)
        except FAILS:
            return False
        same_outputs(answer(example, outer["one"] if way == "dict" and other else outer), wanted)
        plain: Any = embshare.materialize(outer)
        inner = plain["one"] if way == "dict" and other else getattr(plain, "inner", plain)
        assert inner.state_dict().keys() == twin.state_dict().keys()
        for name, tensor in subject.weights().items():
            assert torch.equal(inner.get_parameter(name), tensor), name
        with tempfile.TemporaryDirectory() as folder:
            embshare.save(outer, folder)
    return True


def plan_numbers(model: Any) -> dict[str, tuple[float, float]]:
    """Gains and spreads that a model has now."""
    return noted(require_bank(model).plan)
