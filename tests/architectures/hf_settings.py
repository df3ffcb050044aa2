"""What single classes need to be made tiny, each with its reason. The shorter, the better."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["CANNOT", "SETTINGS", "SOURCES"]

CANNOT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Sam3VideoModel": "its forward runs in inference mode, for a session, and has no gradient",
    }
)
"""Classes that no batch can train, and why."""

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
        "HGNetV2Config": {"stem_channels": [3, 8, 4]},  # halved once more
        "PPDocLayoutV2ReadingOrderConfig": {  # a place for each of 1000 coordinates
            "relation_bias_embed_dim": 4,
            "max_2d_position_embeddings": 1024,
        },
        "PPDocLayoutV2ForObjectDetection": {  # of three stages
            "backbone_config.out_features": ["stage2", "stage3", "stage4"],
            "class_thresholds": [0.5, 0.5],  # None by default, and of as many classes
            "class_order": [0, 1],
        },
        "OmDetTurboConfig": {  # one of timm by default, of 28 million parameters
            "backbone_config": {
                "model_type": "swin",
                "image_size": 64,
                "embed_dim": 3,
                "depths": [1, 1, 1, 1],
                "num_heads": [1, 1, 1, 1],
                "out_indices": [2, 3, 4],
            },
            "apply_layernorm_after_vision_backbone": False,  # which timm's alone needs
        },
        "PerceiverForImageClassificationFourier": {"num_cross_attention_heads": 1},  # of 261
        "Qwen3OmniMoeTalkerConfig": {"spatial_merge_size": 2},  # read, and not its own
        "ReformerConfig": {"axial_pos_shape": [2, 4]},  # as long as a batch, to be trained
        "ClapAudioConfig": {  # doubled in four stages
            "depths": [1] * 4,
            "num_attention_heads": [1] * 4,
        },
        "MllamaVisionModel": {"intermediate_layers_indices": [0] * 5},  # of those before the last
        **{
            name: {  # both parts read one cache
                "dit_config.num_key_value_heads": 1,
                "vlm_config.text_config.num_key_value_heads": 1,
            }
            for name in ("PI0ForConditionalGeneration", "PI0Model")
        },
        "Sam3TrackerModel": {  # of images of 1008
            "vision_config.backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]
        },
        "TvpConfig": {"num_frames": 2, "max_img_size": 64},  # else a film of 48
        "Wav2Vec2BertConfig": {"vocab_size": 32},  # None by default
        "Wav2Vec2ConformerConfig": {"vocab_size": 32},
        "VibeVoiceAcousticTokenizerConfig": {"num_filters": 2},  # doubled six times
        "VibeVoiceAcousticTokenizerEncoderConfig": {"num_filters": 2},
        "VibeVoiceAcousticTokenizerDecoderConfig": {"num_filters": 2},
        "BeitForSemanticSegmentation": {  # four places in the stack, and none by default
            "num_hidden_layers": 4,
            "out_indices": [1, 2, 3, 4],
        },
        "Blip2ForImageTextRetrieval": {
            "num_query_tokens": 4,  # its batch has to be longer
            "qformer_config.use_qformer_text_input": True,  # it asks for it
        },
        "DeepseekOcr2TextConfig": {  # None by default
            "mlp_layer_types": ["dense", "sparse"],
            "num_experts_per_tok": 2,
        },
        "FastVlmConfig": {  # of 125 million parameters by default
            "vision_config": {
                "model_type": "timm_wrapper",
                "architecture": "fastvit_t8",
                "hidden_size": 768,
                "do_pooling": True,
            }
        },
        "Gemma3nVisionConfig": {"architecture": "test_efficientnet"},  # of 294 million by default
        "Granite4VisionConfig": {  # None by default
            "downsample_rate": "1/2",
            "deepstack_layer_map": [[0, 0], [1, 1]],
            "spatial_target_layers": [0, 0, 1, 1],
            "spatial_vision_layer": 1,
        },
        "Granite4VisionModel": {"qformer_config.num_attention_heads": 2},  # a 64th of its width
        "Granite4VisionForConditionalGeneration": {"qformer_config.num_attention_heads": 2},
        "GroundingDinoConfig": {"num_queries": 4},  # of as many places in a small image
        "MMGroundingDinoConfig": {"num_queries": 4},
        "PerceptionLMConfig": {  # its encoder's width is among arguments of timm
            "vision_config": {
                "model_type": "timm_wrapper",
                "architecture": "vit_pe_core_tiny_patch16_384",
                "model_args": {"embed_dim": 64, "depth": 2, "num_heads": 2},
            }
        },
        "RadioConfig": {"video_temporal_patch_size": 2},  # as NemotronH Omni has it
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
        "Emu3VQVAEConfig": {  # of 230 million parameters, in groups of 32
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "attn_resolutions": [],
        },
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
"""Settings without which a class cannot be built or run.

A name of a model's with dots is set in a part of its configuration."""
