"""What single classes need to be made tiny, each with its reason. The shorter, the better."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["SETTINGS", "SOURCES"]

SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: f"{prefix}embeddings.word_embeddings.weight"
        for prefix, names in {
            "": ("IBertModel",),
            "ibert.": (
                "IBertForMaskedLM",
                "IBertForMultipleChoice",
                "IBertForQuestionAnswering",
                "IBertForSequenceClassification",
                "IBertForTokenClassification",
            ),
        }.items()
        for name in names
    }
)
"""Tables that no search finds: I-BERT's is of a class of its own, which is no ``nn.Embedding``."""

SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # Class of a configuration or of a model -> settings.
        "DeepseekV2Config": {"num_experts_per_tok": 2},  # None by default, and counted with
        "EsmConfig": {"vocab_size": 33, "mask_token_id": 32},  # None by default
        "GPTNeoConfig": {"attention_types": [[["global", "local"], 1]]},  # for each layer
        "ReformerModelWithLMHead": {"is_decoder": True},  # it asks for it
        "RwkvConfig": {"rescale_every": 0},  # else it writes into its weights to evaluate
        "T5GemmaEncoderModel": {"is_encoder_decoder": False},  # it asks for it
        "XmodConfig": {"default_language": "en_XX"},  # no batch names one
    }
)
"""Settings without which a class cannot be built or run."""
