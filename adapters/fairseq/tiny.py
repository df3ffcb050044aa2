"""Settings that make each family of fairseq's text models tiny, and tasks for them without data.

What is not set here stays as the architecture has it: where norms stand, what is tied, which kind
of convolution or softmax it has.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from torch import nn

__all__ = ["SYMBOLS", "build_arch", "dictionary", "settings", "task_of"]

_MODELS: Final = "fairseq.models"

SYMBOLS: Final = 64
"""Of the dictionary, with four that every dictionary of fairseq has."""
_LENGTH: Final = 64
CUTOFF: Final = "16,32"
"""Of adaptive softmax and adaptive inputs, within that vocabulary."""

_QUIET: Final = dict.fromkeys(
    "dropout attention_dropout activation_dropout relu_dropout input_dropout weight_dropout "
    "encoder_dropout_in encoder_dropout_out decoder_dropout_in decoder_dropout_out "
    "adaptive_softmax_dropout resid_dropout embed_dropout pooler_dropout "
    "encoder_layerdrop decoder_layerdrop".split(),
    0.0,
)
_LIMITS: Final = {
    "max_source_positions": _LENGTH,
    "max_target_positions": _LENGTH,
    "tokens_per_sample": _LENGTH,
    "max_positions": _LENGTH,
    "criterion": "cross_entropy",
    "label_smoothing": 0.1,
    "tpu": False,
    "no_seed_provided": False,
}
_ATTENTION: Final = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "embed_dim": 32,
        "ffn_embed_dim": 64,
        "layers": 2,
        "attention_heads": 4,
        "input_dim": 32,
        "output_dim": 32,
        "conv_dim": 32,
        "kernel_size_list": [3, 5],
    }.items()
}
_LSTM: Final = {
    "encoder_embed_dim": 32,
    "encoder_hidden_size": 32,
    "encoder_layers": 2,
    "decoder_embed_dim": 32,
    "decoder_hidden_size": 32,
    "decoder_layers": 2,
    "decoder_out_embed_dim": 32,
}
_CONV: Final = {
    "encoder_embed_dim": 32,
    "encoder_layers": "[(32, 3)] * 2",
    "decoder_embed_dim": 32,
    "decoder_layers": "[(32, 3)] * 2",
    "decoder_out_embed_dim": 32,
}
_GPT2: Final = {"embed_dim": 32, "num_attention_heads": 4, "num_layers": 2}
_FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "lstm": _LSTM,
        "lstm_lm": _LSTM,
        "fconv": _CONV,
        "fconv_lm": _CONV,
        "fconv_self_att": {**_CONV, "decoder_attention": "True", "self_attention": "True"},
        "hf_gpt2": _GPT2,
        "dummy_model": {"embed_dim": 32, "num_layers": 2},
    }
)


def settings(model: str) -> dict[str, Any]:
    """Tiny settings of a model type; transformers and their kin where it is not in the table."""
    return {**_QUIET, **_LIMITS, **_FAMILIES.get(model, _ATTENTION)}


def arguments(arch: str, own: Mapping[str, Any]) -> Namespace:
    """An architecture's arguments: what is given, what it says itself, and the model's defaults."""
    models = import_module(_MODELS)
    parser = ArgumentParser(allow_abbrev=False, argument_default=SUPPRESS)
    models.ARCH_MODEL_REGISTRY[arch].add_args(parser)
    known = vars(parser.parse_known_args([])[0])
    args = Namespace(**{**known, **own, "arch": arch})
    models.ARCH_CONFIG_REGISTRY[arch](args)
    _complete(args, models.MODEL_DATACLASS_REGISTRY.get(models.ARCH_MODEL_NAME_REGISTRY[arch]))
    return args


def _complete(args: Namespace, known: Any) -> None:
    """What a model's dataclass says of itself; values of other sections are not its own."""
    if known is not None:
        for name, value in vars(known()).items():
            if not hasattr(args, name) and not str(value).startswith("${"):
                setattr(args, name, value)


def cut(args: Namespace) -> None:
    """Let a cutoff of adaptive softmax lie within the tiny vocabulary."""
    if getattr(args, "adaptive_softmax_cutoff", None):
        args.adaptive_softmax_cutoff = CUTOFF
    if getattr(args, "adaptive_input_cutoff", None):
        args.adaptive_input_cutoff = CUTOFF


def dictionary(symbols: int = SYMBOLS) -> Any:
    """Of made-up words."""
    made = import_module("fairseq.data").Dictionary()
    for number in range(symbols - len(made)):
        made.add_symbol(f"w{number}")
    return made


def task_of(model: str, words: Any) -> Any:
    """A task of fairseq for a model type: language modelling, or translation.

    Args:
        model: ``transformer_lm``.
        words: the dictionary, of both sides.
    """
    tasks = import_module("fairseq.tasks")
    models = import_module(_MODELS)
    registered = models.MODEL_REGISTRY[model]
    if issubclass(registered, models.FairseqMultiModel):
        task = tasks.TASK_REGISTRY["multilingual_translation"]
        return task(Namespace(lang_pairs=["a-b", "b-a"]), {"a": words, "b": words}, training=True)
    if issubclass(registered, models.FairseqLanguageModel):
        section = tasks.TASK_DATACLASS_REGISTRY["language_modeling"]
        return tasks.TASK_REGISTRY["language_modeling"](section(), words)
    section = tasks.TASK_DATACLASS_REGISTRY["translation"]
    return tasks.TASK_REGISTRY["translation"](section(), words, words)


def build_arch(arch: str, own: Mapping[str, Any], words: Any) -> nn.Module:
    """A model of an architecture with these settings, dense, at its random start."""
    models = import_module(_MODELS)
    args = arguments(arch, own)
    if len(words) <= SYMBOLS:
        cut(args)
    task = task_of(models.ARCH_MODEL_NAME_REGISTRY[arch], words)
    made: nn.Module = models.ARCH_MODEL_REGISTRY[arch].build_model(args, task)
    return made
