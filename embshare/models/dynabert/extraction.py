"""`extract`: a sub-network as a model of its own."""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

import torch
from torch import nn

from embshare.materialize import materialize
from embshare.models.dynabert.blocks import blocks, layer_list
from embshare.models.dynabert.elastic import ElasticLinear, keep
from embshare.models.dynabert.narrow import CONFIGS, MODELS, count_heads, narrow_linear
from embshare.models.dynabert.rewiring import ORDER_KEY
from embshare.models.dynabert.sizes import FULL, Rounding, Size, kept_heads
from embshare.models.dynabert.sizing import SIZE_KEY, apply_size, configs
from embshare.runtime.bank import bank_of

__all__ = ["extract"]

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def extract(model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact") -> M:
    """A sub-network as a plain model that has nothing else; it computes what `sized` computes.

    Its layers are ordinary ones. At full width it is a model of transformers with fewer layers. A
    narrower one has the class ``Narrow...`` of the same model: ``save_pretrained`` writes it, and
    the Auto classes read it where this package has been imported, and refuse it where not.

    Args:
        model: BERT or RoBERTa of transformers, with or without a head; plain or shared. It is not
            changed. A shared one gives a plain sub-network: what a shared model stores are its
            table and projection, and all sub-networks read them.
        width: as in `sized`.
        depth: as in `sized`.
        rounding: as in `sized`.
    Returns:
        A model of its own, on the same device, that aliases nothing.
    Raises:
        InvalidValueError: as `sized`.
    """
    size = Size(width=width, depth=depth, rounding=rounding)
    made = copy.deepcopy(model) if bank_of(model) is None else materialize(model)
    apply_size(made, size)
    found, layers = blocks(made), layer_list(made)
    kept = list(layers)
    heads = kept_heads(found[0].heads, width)
    for layer in kept:
        _shrink(layer, heads)
    _keep_only(layers, kept)
    for config in configs(made):
        _describe(config, layers=len(kept), neurons=blocks(made)[0].neurons)
    return made if heads == found[0].heads else _named(made, heads)


def _shrink(layer: nn.Module, heads: int) -> None:
    """Exchange the Linear layers that use a part for smaller ones."""
    for name, part in list(layer.named_modules()):
        if isinstance(part, ElasticLinear):
            owner, _, leaf = name.rpartition(".")
            layer.get_submodule(owner).add_module(leaf, _whole(part))
    count_heads(layer.get_submodule("attention.self"), heads)


def _whole(elastic: ElasticLinear) -> nn.Linear:
    """An ordinary Linear layer of what an elastic one uses."""
    weight, bias = elastic.used()
    made = narrow_linear(elastic, rows=weight.shape[0], columns=weight.shape[1])
    made.weight.copy_(weight).requires_grad_(elastic.weight.requires_grad)
    if bias is not None:
        made.bias.copy_(bias).requires_grad_(elastic.bias.requires_grad)
    return made.train(elastic.training)


def _keep_only(layers: nn.ModuleList, kept: list[nn.Module]) -> None:
    keep(layers, (), FULL)
    layers._modules.clear()
    for index, layer in enumerate(kept):
        layers.append(layer)
        for part in layer.modules():  # where a cache of keys and values has the layer's place
            if hasattr(part, "layer_idx"):
                part.layer_idx = index  # type: ignore[assignment]


def _describe(config: Any, *, layers: int, neurons: int) -> None:
    config.num_hidden_layers, config.intermediate_size = layers, neurons
    for name in (SIZE_KEY, ORDER_KEY):
        config.__dict__.pop(name, None)


def _named(model: M, heads: int) -> M:
    """The same tensors in the class whose name says that heads are missing, where there is one."""
    config: Any = getattr(model, "config", None)
    if type(model) in MODELS.values():
        config.kept_heads = heads
        return model
    narrow, kind = MODELS.get(type(model)), CONFIGS.get(type(config))
    if narrow is None or kind is None:
        return model
    settings = config.to_dict()
    settings.pop("model_type", None)
    described = kind(**settings, kept_heads=heads)
    described._attn_implementation = config._attn_implementation
    with torch.device("meta"):
        made = narrow(described)
    made.load_state_dict(model.state_dict(), assign=True, strict=True)
    _take_buffers(made, model)
    made.tie_weights()
    for new, old in zip(made.parameters(), model.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    return cast("M", made.train(model.training))


def _take_buffers(made: nn.Module, model: nn.Module) -> None:
    """Those that are in no state dict, such as positions."""
    for name, buffer in model.named_buffers():
        owner, _, leaf = name.rpartition(".")
        made.get_submodule(owner)._buffers[leaf] = buffer
