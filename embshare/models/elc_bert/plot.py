"""Learned weights of earlier outputs in every layer, as numbers and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.models.elc_bert.model import ElcBertEncoder, ElcBertPreTrainedModel, Mixture
from embshare.report.drawing import write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_layer_weights", "layer_weights", "make_figure"]


@torch.no_grad()
def layer_weights(model: ElcBertPreTrainedModel) -> Tensor:
    """Weights of the inputs of each layer, ``[n, n]``.

    Row ``i``, from 0, is layer ``i + 1``, and column ``j`` is output ``j``, of which 0 is the
    embedded words. Rows sum to 1; later outputs have weight 0.

    ``n`` is the number of layers, and one more where the variant mixes its output, which is the
    last row then.

    Raises:
        InvalidValueError: the model is an LTG-BERT, which has no such weights.
    """
    (encoder,) = (part for part in model.modules() if isinstance(part, ElcBertEncoder))
    number = len(encoder.mixtures)
    if not number:
        raise InvalidValueError(
            what="layer_weights", faults=["the variant 'ltg' reads the last output alone"]
        )
    found = torch.zeros(number, number)
    for row, mixture in zip(found, encoder.mixtures, strict=True):
        assert isinstance(mixture, Mixture)
        row[: len(mixture.logits)] = mixture.weights()
    return found


def draw_layer_weights(model: ElcBertPreTrainedModel, path: str | Path) -> None:
    """Draw `layer_weights` as a triangle, in the format that the suffix names.

    The same weights give the same bytes.

    Raises:
        MissingPackageError: matplotlib is not installed.
        InvalidValueError: the model is an LTG-BERT, or the suffix is not that of an image format.
        CheckpointError: the file cannot be written.
    """
    weights = layer_weights(model)
    outputs = len(weights) > model.config.num_hidden_layers
    write_figure(lambda: make_figure(weights, outputs=outputs), path, what="draw_layer_weights")


def make_figure(weights: Tensor, *, outputs: bool = False) -> Figure:
    """Plot the weights in a matplotlib figure without a window; the last row may be the output.

    Args:
        weights: ``[n, n]``, as `layer_weights` gives them.
        outputs: whether the last row is the model's output, not a layer's input.
    """
    from matplotlib.figure import Figure

    number = len(weights)
    side = 1.6 + 0.42 * number
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    later = torch.ones_like(weights).triu(1).bool()
    image = axes.imshow(weights.masked_fill(later, torch.nan).numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(number):
        for column in range(row + 1):
            value = float(weights[row, column])
            colour = "white" if value > 0.6 else "black"
            text = f"{value:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    rows = [str(row + 1) for row in range(number)]
    axes.set_yticks(range(number), [*rows[:-1], "output"] if outputs else rows)
    axes.set_xticks(range(number), ["words", *map(str, range(1, number))])
    axes.set(xlabel="output that is read", ylabel="layer that reads")
    axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(image, shrink=0.7, label="weight")
    return figure
