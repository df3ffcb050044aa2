"""Masked language models: their scores of labelled positions, of which their heads see no others.

A masked language model predicts one position in seven, and its head is a matrix as large as the
table. Most models of transformers multiply with it at every position. Here the encoder's output is
cut to the labelled positions before the head; the model's code stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from embshare.models.matched.embedding import IGNORED

if TYPE_CHECKING:
    from embshare.models.convbert import ConvBertForPreTraining

__all__ = [
    "GeneratorAlone",
    "as_masked_model",
    "is_replacing",
    "labelled_logits",
    "score_labelled_only",
]


def labelled_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """``[M, V]`` of the labelled positions, from a model that scores these or all.

    Args:
        logits: ``[M, V]``, ``[1, M, V]`` or ``[B, T, V]``.
        labels: ``[B, T]``, -100 where nothing is predicted.
    """
    if logits.dim() == 3 and logits.shape[:2] == labels.shape:
        return logits[labels != IGNORED]
    return logits.flatten(0, -2)


def is_replacing(model: nn.Module) -> bool:
    """Whether a model masks and replaces tokens itself, as ELECTRA and ConvBERT do in training."""
    import sys

    module = sys.modules.get("embshare.models.convbert.pretraining")  # else nothing is of it
    return module is not None and isinstance(model, module.ConvBertForPreTraining)


def as_masked_model(model: nn.Module) -> nn.Module:
    """A masked language model: the model itself, or its generator where it has one."""
    return GeneratorAlone(model) if is_replacing(model) else model  # type: ignore[arg-type]


@final
class GeneratorAlone(nn.Module):
    """The generator of a ConvBERT in pretraining, called as a masked language model is."""

    def __init__(self, model: ConvBertForPreTraining) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``logits`` ``[M, V]`` of the labelled positions, and their mean ``loss``.

        Args:
            input_ids: ``[B, T]``, with mask tokens.
            labels: ``[B, T]``, the masked tokens, and -100 where nothing is predicted.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; ``None`` is 1 everywhere.
        """
        from embshare.models.convbert.masking import Masked

        scored = labels != IGNORED
        most = max(1, int(scored.sum(dim=1).max()))
        found, positions = torch.sort(scored.int(), dim=1, descending=True, stable=True)
        found, positions = found[:, :most].bool(), positions[:, :most]
        masked = Masked(input_ids, positions, labels.gather(1, positions), found)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        logits = self.model.score_masked(masked, attention_mask, None)[found]
        loss = nn.functional.cross_entropy(logits.float(), labels[scored])
        return {"logits": logits, "loss": loss}


def score_labelled_only(model: nn.Module) -> bool:
    """Have a model's head score labelled positions only, in calls with labels.

    Logits are then ``[1, M, V]`` of the ``M`` labelled positions. That is tried on two short rows:
    the loss must stay the same.

    Args:
        model: masked language model of transformers, on any device.
    Returns:
        Whether it works; if not, the model is as it was.
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
    """Passes the labelled positions from a model's inputs to its encoder's output."""

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
    """The loss of two short rows; ``None`` where the model fails on them."""
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
