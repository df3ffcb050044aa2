"""Tiny models of transformers, built without a network, and a tokenizer for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests._support.translation_data import PAIRS

__all__ = ["SIZES", "write_config", "write_tokenizer"]

WORDS = sorted({word for pair in PAIRS for side in pair for word in side.split()})
IDS = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
SIZES: dict[str, Any] = {
    "vocab_size": len(IDS),
    "d_model": 16,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "max_position_embeddings": 64,
}


def write_tokenizer(folder: Path) -> Path:
    """Write a word-level tokenizer that appends the end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


def write_config(folder: Path, kind: str, **changes: Any) -> Path:
    """A folder with the tokenizer and the configuration of a model, which is an architecture."""
    import transformers

    getattr(transformers, kind)(**{**SIZES, **changes}).save_pretrained(folder)
    return write_tokenizer(folder)
