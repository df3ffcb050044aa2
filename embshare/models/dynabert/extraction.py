"""`extract`: a sub-network as a separate, smaller model."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from embshare.materialize import materialize
from embshare.models.dynabert.blocks import blocks, layer_list
from embshare.models.dynabert.elastic import ElasticLinear
from embshare.models.dynabert.heads import CONFIGS, MODELS, Narrow, count_heads, narrow_linear
from embshare.models.dynabert.rewiring import ORDER_KEY
from embshare.models.dynabert.sizes import (
    FULL,
    SIZE_KEY,
    Rounding,
    Size,
    apply_size,
    configs,
    keep,
    kept_heads,
)
from embshare.runtime.bank import bank_of

__all__ = ["extract"]

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def extract(model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact") -> M:
    """Make a sub-network a plain model that has nothing else; it computes what `sized` computes.

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
        A new model, on the same device, that aliases nothing.
    Raises:
        InvalidValueError: as `sized`.
    """
    made = copy.deepcopy(model) if bank_of(model) is None else materialize(model)
    apply_size(made, Size(width=width, depth=depth, rounding=rounding))
    layers, whole = layer_list(made), blocks(made)[0].attention.count
    heads, kept = kept_heads(whole, width), list(layers)
    for layer in kept:
        _shrink(layer, heads)
    _keep_only(layers, kept)
    for config in configs(made):
        config.num_hidden_layers = len(kept)
        config.intermediate_size = blocks(made)[0].feed_forward.count
        for name in (SIZE_KEY, ORDER_KEY):
            config.__dict__.pop(name, None)
    if heads < whole:
        _describe(made, heads)
    return made


def _shrink(layer: nn.Module, heads: int) -> None:
    """Exchange the Linear layers that use a part for smaller ones."""
    for name, part in list(layer.named_modules()):
        if isinstance(part, ElasticLinear):
            owner, _, leaf = name.rpartition(".")
            layer.get_submodule(owner).add_module(leaf, _plain(part))
    count_heads(layer.get_submodule("attention.self"), heads)


def _plain(elastic: ElasticLinear) -> nn.Linear:
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


def _describe(model: nn.Module, heads: int) -> None:
    """Let the model's and the configuration's class say that heads are missing, if one can."""
    narrow, config = MODELS.get(type(model)), getattr(model, "config", None)
    if narrow is not None and type(config) in CONFIGS:
        model.__class__ = narrow
        for found in configs(model):
            found.__class__ = CONFIGS[type(found)]
    if isinstance(model, Narrow):
        for found in configs(model):
            found.kept_heads = heads
