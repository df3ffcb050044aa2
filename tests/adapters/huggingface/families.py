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
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)

__all__ = ["FAMILIES", "IDS", "bert", "classifier", "logits"]

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


@torch.no_grad()
def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    """What a model computes in evaluation."""
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    out: Tensor = model.eval()(input_ids=ids, **more).logits
    return out
