"""Heads that score labelled positions alone, for models of transformers that score all.

A masked language model predicts one position in seven, and its head is a matrix as large as the
table. Most models of transformers multiply with it at every position. Here the encoder's output is
cut down to the labelled positions before the head sees it; the model's code stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["labelled_logits", "score_labelled_alone"]

IGNORED = -100


def score_labelled_alone(model: nn.Module) -> bool:
    """Let the head see labelled positions alone, in calls with labels.

    Logits are then ``[1, M, V]`` of the ``M`` labelled positions. Whether a model can be treated so
    is tried on two short rows: the loss has to stay what it is.

    Args:
        model: A masked language model of transformers; on the CPU or any other device.
    Returns:
        Whether it can; if not, the model is as it was.
    """
    encoder = getattr(model, "base_model", None)
    if not isinstance(encoder, nn.Module) or encoder is model:
        return False
    before = _probe(model)
    if before is None:
        return False
    cut = _Cut()
    handles = (
        model.register_forward_pre_hook(cut.take_labels, with_kwargs=True),
        encoder.register_forward_hook(cut.cut_output),
    )
    after = _probe(model)
    if after is not None and torch.allclose(before, after, rtol=1e-4, atol=1e-5):
        return True
    for handle in handles:
        handle.remove()
    return False


@final
@dataclass
class _Cut:
    """Carries the labelled positions from a model's beginning to its encoder's end."""

    scored: Tensor | None = field(default=None, repr=False)

    def take_labels(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        labels = kwargs.get("labels")
        self.scored = None
        if labels is None:
            return args, kwargs
        self.scored = labels != IGNORED
        return args, {**kwargs, "labels": labels[self.scored][None]}

    def cut_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        scored, self.scored = self.scored, None
        if scored is None:
            return output
        if isinstance(output, tuple):
            return (output[0][scored][None], *output[1:])
        output.last_hidden_state = output.last_hidden_state[scored][None]
        return output


@torch.no_grad()
def _probe(model: nn.Module) -> Tensor | None:
    """The loss of two short rows; ``None`` where the model does not take them."""
    training, device = model.training, next(model.parameters()).device
    ids = torch.tensor([[1, 2, 3, 2, 1], [3, 1, 1, 2, 0]], device=device)
    labels = torch.tensor([[-100, 2, -100, 1, -100], [-100, 1, 2, -100, -100]], device=device)
    model.eval()
    try:
        loss: Tensor = model(input_ids=ids, labels=labels).loss
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
        return None
    else:
        return loss
    finally:
        model.train(training)


def labelled_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """``[M, V]`` of the labelled positions, from a model that scores these or all.

    Args:
        logits: ``[M, V]``, ``[1, M, V]`` or ``[B, T, V]``.
        labels: ``[B, T]``.
    """
    if logits.dim() == 3 and logits.shape[:2] == labels.shape:
        return logits[labels != IGNORED]
    return logits.flatten(0, -2)
