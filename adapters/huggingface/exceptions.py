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
        "Blip2Config": {"image_token_id": 5},  # None by default, and looked for
        "InstructBlipConfig": {"image_token_id": 5},
        "InstructBlipVideoConfig": {"video_token_id": 5},
        "ChameleonConfig": {"vocabulary_map": {"<image>": 4}},  # none by default
        "CohereCompassTextConfig": {  # one for each type of layer, and none by default
            "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
        },
        "Cosmos3EdgeTextConfig": {  # half of a head's width
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 2, 2],
            }
        },
        "DbrxAttentionConfig": {"rope_theta": 10_000.0, "clip_qkv": 8.0},  # read, and not its own
        "DiffusionGemmaTextConfig": {  # None by default
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
        "Dots3NoteVisionConfig": {"pyramid_num_routed": [-1, 4]},  # for each layer
        "Dots1Config": {  # None by default
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
        },
        "Emu3Config": {"vocabulary_map": {"<image>": 4}},  # none by default
        "Gemma3nTextConfig": {"num_kv_shared_layers": 0},  # of two layers none can borrow
        "Glm5NextTextConfig": {"index_kpool": 2},  # divides index_topk
        "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"]},  # none by default
        "Molmo2AdapterConfig": {"vision_feature_layer": [1, 0]},  # of so many layers
        "MoonshineStreamingConfig": {"num_key_value_heads": 2},  # read, and not its own
        "PaddleOCRTextConfig": {  # half of a head's width
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [3, 3, 2],
            }
        },
        "Qwen3OmniMoeTalkerTextConfig": {"shared_expert_intermediate_size": 24},  # likewise
        "Qwen2_5OmniThinkerConfig": {"vision_start_token_id": 6},  # read, and not its own
        "Qwen3OmniMoeThinkerConfig": {"vision_start_token_id": 6},
        "ShieldGemma2Config": {"yes_token_index": 7, "no_token_index": 8},  # in a large table
        "Step3p7TextConfig": {"sliding_window": 16},  # None by default, and needed
        "T5Gemma2TextConfig": {"dropout_rate": 0.0},  # read, and not among its own
        "ZambaConfig": {  # as many as layers, and hybrid ones to tie
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
        },
        "Zamba2Config": {"layers_block_type": ["mamba", "hybrid"]},
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
