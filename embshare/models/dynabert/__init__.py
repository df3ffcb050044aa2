"""DynaBERT (Hou et al., NeurIPS 2020): one BERT or RoBERTa that runs at twelve sizes.

Importing this package imports transformers and registers the classes of narrower models with its
Auto classes. Training, evaluation and augmentation are in `embshare.tasks.elastic`.
"""

from embshare.models import hub  # noqa: F401  (first: it says what to install)
from embshare.models.distillation import require_same_labels, soft_cross_entropy, state_loss
from embshare.models.dynabert.extraction import extract
from embshare.models.dynabert.heads import register
from embshare.models.dynabert.importance import Importance, importance
from embshare.models.dynabert.losses import distillation_loss
from embshare.models.dynabert.rewiring import restore, rewire
from embshare.models.dynabert.sizes import (
    DEPTHS,
    WIDTHS,
    Size,
    count_operations,
    count_parameters,
    kept_heads,
    kept_layers,
    kept_neurons,
    matched_states,
    set_size,
    size_of,
    sized,
    sub_networks,
)

__all__ = [
    "DEPTHS",
    "WIDTHS",
    "Importance",
    "Size",
    "count_operations",
    "count_parameters",
    "distillation_loss",
    "extract",
    "importance",
    "kept_heads",
    "kept_layers",
    "kept_neurons",
    "matched_states",
    "require_same_labels",
    "restore",
    "rewire",
    "set_size",
    "size_of",
    "sized",
    "soft_cross_entropy",
    "state_loss",
    "sub_networks",
]

register()
