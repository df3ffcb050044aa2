"""ConvBERT's pretraining model, seen as what all others here are: a model of hidden words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor, nn

from embshare.tasks.task import Batch

if TYPE_CHECKING:
    from embshare.models.convbert import ConvBertForPreTraining

__all__ = ["GeneratorAlone", "as_masked_model", "discriminator_scores", "is_replacing"]

IGNORED: Final = -100


def is_replacing(model: nn.Module) -> bool:
    """Whether a model hides and replaces words itself."""
    import sys

    module = sys.modules.get("embshare.models.convbert.pretraining")  # else nothing is of it
    return module is not None and isinstance(model, module.ConvBertForPreTraining)


def as_masked_model(model: nn.Module) -> nn.Module:
    """A model that predicts hidden words: itself, or its generator where it has one."""
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
            input_ids: ``[B, T]``, with mask symbols.
            labels: ``[B, T]``, what stood there, and -100 where nothing is to be predicted.
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
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


@torch.inference_mode()
def discriminator_scores(
    model: ConvBertForPreTraining, batches: Iterable[Batch], *, seed: int
) -> Mapping[str, float]:
    """How well replaced words are told from others, on words of the generator.

    Args:
        model: in evaluation mode.
        batches: of whole words, ``input_ids`` ``[B, T]``.
        seed: of what is hidden and what the generator draws.
    Returns:
        ``replaced_share``, of all words; ``replaced_accuracy``, of telling, where a model that
        takes none for replaced has one less that share; ``replaced_f1``, of finding them.
    """
    device = model.convbert.embeddings.word_embeddings.weight.device
    chance = torch.Generator(device).manual_seed(seed)
    counts = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        output: Any = model(batch["input_ids"].to(device), generator=chance)
        taken, replaced = output.logits > 0, output.replaced.bool()
        kinds = (taken & replaced, taken & ~replaced, ~taken & replaced, ~taken & ~replaced)
        counts += torch.stack([kind.sum() for kind in kinds]).double().cpu()
    hits, false, missed, right = counts.tolist()
    total = max(1.0, hits + false + missed + right)
    return {
        "replaced_share": (hits + missed) / total,
        "replaced_accuracy": (hits + right) / total,
        "replaced_f1": 2 * hits / max(1.0, 2 * hits + false + missed),
    }
