"""What programs change in a subject: tables, layers, and numbers by any means."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Final

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.errors import DerivedWeightError, TableReplacedError
from embshare.runtime.bank import require_bank
from tests.campaigns.twins import Subject, alarmed, answer, values

__all__ = [
    "WRITES",
    "WRITES_INTO_DERIVED",
    "grow",
    "replace_layer",
    "replace_table",
    "through_empty",
    "write",
    "write_into_derived",
]


def grow(subject: Subject, rows: int) -> bool:
    """New values for the table, and rows that no plan reads."""
    owner, _ = subject.table()
    old = owner._parameters["weight"]
    assert old is not None
    if rows and any(isinstance(m, nn.Linear) and m.bias is not None for m in subject.tied()):
        return False
    more = torch.randn(rows, old.shape[1], dtype=old.dtype)
    new = nn.Parameter(torch.cat([old.detach() * 0.9, more]), requires_grad=old.requires_grad)
    with alarmed():
        for module in subject.tied():
            module.weight = new
    return True


def replace_layer(subject: Subject, path: str) -> bool:
    """A layer that is not derived takes the place of one that is."""
    inside = [name for name in subject.derived() if name.startswith(f"{path}.")]
    if not path or len(inside) == len(subject.derived()):
        return False
    subject.refresh()
    try:
        new = copy.deepcopy(subject.plain.get_submodule(path))
    except RuntimeError:
        return False
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(0.5)
    for model in (subject.model, subject.plain):
        owner, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(owner), leaf, copy.deepcopy(new))
    subject.replaced.add(path)
    subject.frozen -= {name for name in subject.frozen if name.startswith(f"{path}.")}
    return True


def replace_table(subject: Subject) -> None:
    """Another module in the table's place is refused at the next call; undone, all is well."""
    old, path = subject.table()
    owner, _, leaf = path.rpartition(".")
    like = old._parameters["weight"]
    assert like is not None
    home = subject.model.get_submodule(owner)
    setattr(home, leaf, nn.Embedding(len(like), 12).to(like.dtype))
    with alarmed(), tempfile.TemporaryDirectory() as folder:
        if subject.derived() and require_bank(subject.model).columns:
            with pytest.raises(TableReplacedError):
                answer(subject.example, subject.model)
            with pytest.raises(TableReplacedError):
                embshare.save(subject.model, folder)
    setattr(home, leaf, old)


WRITES: Final[dict[str, Callable[[Tensor], object]]] = {
    "data": lambda t: t.data.add_(0.1 * torch.randn_like(t)),
    "new data": lambda t: setattr(t, "data", t.data + 0.1 * torch.randn_like(t)),
    "add": lambda t: t.detach().add_(0.1 * torch.randn_like(t)),
    "row": lambda t: t.data.view(-1)[:3].copy_(torch.randn(3)[: t.numel()]),
    "numpy": lambda t: _by_numpy(t),
    "zero": lambda t: t.data.zero_(),
    "init": lambda t: nn.init.uniform_(t, -0.3, 0.3),
}


def _by_numpy(tensor: Tensor) -> None:
    if tensor.dtype is torch.bfloat16:
        return
    array = tensor.detach().numpy()
    array += 0.05


def write(subject: Subject, way: str, number: int) -> None:
    """Into something that is stored, by any means."""
    stored = list(subject.model.parameters())
    if way == "zero" and "norm" in subject.example.name:
        way = "add"  # a direction of zeros has no norm to be divided by
    with alarmed():
        WRITES[way](stored[number % len(stored)])


def _assign(layer: nn.Module, leaf: str) -> None:
    setattr(layer, leaf, nn.Parameter(getattr(layer, leaf).detach().clone()))


def _numpy_write(layer: nn.Module, leaf: str) -> None:
    weight = getattr(layer, leaf).detach()
    if weight.dtype is torch.bfloat16:
        raise DerivedWeightError("numpy has no such type")
    try:
        weight.numpy()[:] = 0
    except ValueError as error:
        raise DerivedWeightError("read-only") from error


def _out(layer: nn.Module, leaf: str) -> None:
    weight = getattr(layer, leaf).detach()
    torch.add(torch.zeros_like(weight), 1, out=weight)


WRITES_INTO_DERIVED: Final[dict[str, Callable[[nn.Module, str], object]]] = {
    "zero": lambda m, n: getattr(m, n).detach().zero_(),
    "data": lambda m, n: getattr(m, n).data.clamp_(-0.01, 0.01),
    "new data": lambda m, n: setattr(getattr(m, n), "data", torch.zeros(1)),
    "assign": _assign,
    "init": lambda m, n: nn.init.normal_(getattr(m, n)),
    "item": lambda m, n: getattr(m, n).data.__setitem__(0, 0.0),
    "view": lambda m, n: getattr(m, n).detach().view(-1)[1:].fill_(1.0),
    "copy": lambda m, n: getattr(m, n).data.copy_(torch.zeros(())),
    "numpy": _numpy_write,
    "out": _out,
    "register": lambda m, n: m.register_parameter(n, None),
    "foreach": lambda m, n: torch._foreach_add_([getattr(m, n).detach()], 1.0),
}


def write_into_derived(subject: Subject, way: str, number: int) -> None:
    """Raises, and changes nothing."""
    found = list(subject.derived().values())
    layer, leaf = found[number % len(found)]
    before = getattr(layer, leaf).detach().clone()
    with alarmed(), pytest.raises(DerivedWeightError), torch.no_grad():
        WRITES_INTO_DERIVED[way](layer, leaf)
    assert torch.equal(getattr(layer, leaf), before)


def through_empty(subject: Subject, *, meta: bool) -> None:
    """`to_empty`, ties and what no state dict holds made again, and a state dict loaded."""
    model = subject.model
    state = values(model)
    others = {n: b.clone() for n, b in model.named_buffers() if n not in state}
    tied = subject.tied()
    with alarmed():
        if meta:
            model.to("meta")
        model.to_empty(device="cpu")
        for module in tied:
            module._parameters["weight"] = tied[0]._parameters["weight"]
        model.load_state_dict(state)
    for name, buffer in others.items():
        model.get_buffer(name).copy_(buffer)
