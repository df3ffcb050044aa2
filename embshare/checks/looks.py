"""What the looks of `embshare.check` have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from embshare.runtime.bank import Bank

__all__ = ["Rooted", "extremes", "owner_of"]


@dataclass(frozen=True)
class Rooted:
    """A shared model and its path in the model that is checked."""

    path: str
    root: nn.Module
    bank: Bank

    @property
    def place(self) -> str:
        """Its name for people."""
        return self.path or type(self.root).__name__

    def name(self, name: str) -> str:
        """A name in the shared model, as it is in the model around it."""
        return f"{self.path}.{name}" if self.path and name else self.path or name


def owner_of(root: nn.Module, name: str) -> nn.Module | None:
    """The module of a parameter's full name, where there is one of that name."""
    try:
        return root.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return None


def extremes(tensor: Tensor) -> tuple[float, float] | None:
    """Least and greatest element (of this shard), NaN where one is; None without values here.

    One pass, which allocates nothing: tables are large.
    """
    tensor = tensor.detach()
    tensor = getattr(tensor, "_local_tensor", tensor)  # looking at all shards would need all ranks
    if tensor.device.type == "meta" or not tensor.numel() or not tensor.is_floating_point():
        return None
    low, high = tensor.aminmax()
    return float(low), float(high)
