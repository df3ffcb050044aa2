"""Tiny models of several families, built from configurations alone, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    RobertaConfig,
    RobertaForTokenClassification,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

__all__ = ["FAMILIES", "IDS", "KINDS", "bert", "classifier", "logits"]

IDS = torch.arange(12).view(2, 6) * 7 % 97 + 3
SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def bert(**settings: Any) -> Any:
    """Tied head."""
    return BertForMaskedLM(BertConfig(**SIZES, **settings))


def classifier(**settings: Any) -> Any:
    """No language model head."""
    return BertForSequenceClassification(BertConfig(**SIZES, **settings))


def gpt2(**settings: Any) -> Any:
    """Weights stored ``[in, out]``."""
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(vocab_size=101, **sizes, **settings))


def t5(**settings: Any) -> Any:
    """Encoder and decoder."""
    sizes: dict[str, Any] = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2}
    settings["decoder_start_token_id"] = 0
    return T5ForConditionalGeneration(T5Config(vocab_size=101, **sizes, **settings))


def two_sides() -> dict[str, Any]:
    """Sizes of an encoder and a decoder."""
    sizes: dict[str, Any] = {"vocab_size": 101, "d_model": 16, "max_position_embeddings": 32}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_ffn_dim": 32, f"{side}_attention_heads": 2}
    return sizes


def marian() -> Any:
    """The table's first name is not that of the embedding that is read."""
    return MarianMTModel(MarianConfig(**two_sides(), pad_token_id=0, decoder_start_token_id=0))


def mixtral() -> Any:
    """Experts, which transformers fuses when it loads and splits when it saves."""
    sizes: dict[str, Any] = {"num_local_experts": 3, "num_experts_per_tok": 2}
    return MixtralForCausalLM(MixtralConfig(**SIZES, **sizes, num_key_value_heads=1))


def decoder() -> Any:
    """Cross-attention in the middle of each layer."""
    return BertLMHeadModel(BertConfig(**SIZES, is_decoder=True, add_cross_attention=True))


def llama(**settings: Any) -> Any:
    """Untied head, grouped keys."""
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1, **settings))


def mamba() -> Any:
    """No attention."""
    return MambaForCausalLM(
        MambaConfig(vocab_size=101, hidden_size=16, state_size=4, num_hidden_layers=2)
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "albert": lambda: AlbertForMaskedLM(AlbertConfig(**SIZES, embedding_size=8)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**two_sides())),
    "bert": bert,
    "bert-classifier": classifier,
    "bert-decoder": decoder,
    "bert-untied": lambda: bert(tie_word_embeddings=False),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=101, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    ),
    "gpt2": gpt2,
    "gpt2-untied": lambda: gpt2(tie_word_embeddings=False),
    "llama": llama,
    "llama-tied": lambda: llama(tie_word_embeddings=True),
    "mamba": mamba,
    "marian": marian,
    "mixtral": mixtral,
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=1)),
    "roberta": lambda: RobertaForTokenClassification(RobertaConfig(**SIZES)),
    "t5": t5,
    "t5-untied": lambda: t5(tie_word_embeddings=False, feed_forward_proj="gated-gelu"),
}


def rwkv(**settings: Any) -> Any:
    """Neither attention nor a state space; its blocks are more than it takes to divide weights."""
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "context_length": 32}
    return RwkvForCausalLM(RwkvConfig(vocab_size=101, **sizes, **{"rescale_every": 1} | settings))


def mamba2() -> Any:
    """State spaces whose projections are fused, and a grouped norm."""
    sizes: dict[str, Any] = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4}
    return Mamba2ForCausalLM(Mamba2Config(vocab_size=101, **sizes, **heads))


def qwen2_moe() -> Any:
    """Routed experts beside a shared one."""
    sizes: dict[str, Any] = {"num_experts": 3, "num_experts_per_tok": 2, "num_key_value_heads": 1}
    sizes |= {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 16}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SIZES, **sizes))


def jamba() -> Any:
    """State spaces, attention and experts in one model."""
    sizes: dict[str, Any] = {"num_key_value_heads": 1, "num_experts": 2, "mamba_d_state": 4}
    sizes |= {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2}
    return JambaForCausalLM(JambaConfig(**SIZES, **sizes, use_mamba_kernels=False))


def two_berts() -> Any:
    """Two models of transformers in one, each with its own table."""
    parts = (BertConfig(**SIZES), BertConfig(**SIZES))
    special: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*parts, **special)
    return EncoderDecoderModel(config=config)


KINDS: dict[str, Callable[[], Any]] = {
    "cross-attention, BART": FAMILIES["bart"],
    "cross-attention, T5": t5,
    "Conv1D, GPT-2": gpt2,
    "fused qkv, GPT-NeoX": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
    "fused qkv, Phi-3": lambda: Phi3ForCausalLM(
        Phi3Config(**SIZES, num_key_value_heads=1, pad_token_id=0, eos_token_id=2)
    ),
    "experts, Mixtral": mixtral,
    "experts, Qwen2-MoE": qwen2_moe,
    "state space, Mamba": mamba,
    "state space, Mamba2": mamba2,
    "state space, Jamba": jamba,
    "RWKV": rwkv,
    "two models in one": two_berts,
}
"""Ways in which weights are kept and used -> a small model that has them."""


@torch.no_grad()
def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    """What a model computes in evaluation."""
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    out: Tensor = model.eval()(input_ids=ids, **more).logits
    return out
