"""Architectures of fairseq by name, in the size that fairseq registers them in."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from torch import nn

from embshare.adapters.errors import ModelNotBuiltError, suggestion
from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.adapters.packages import need
from embshare.config import ShareConfig
from embshare.plan.values import SharePlan

__all__ = ["VOCABULARY", "architectures", "build_arch", "build_fairseq", "dictionary", "plan_named"]

_MODELS: Final = "fairseq.models"
_OTHER: Final = ("speech", "wav2vec", "hubert", "xm_transformer", "dlm", "tts", "tacotron", "ulm")
"""Parts of the modules and names of models that read or write sound."""
VOCABULARY: Final = 10_000
"""Tokens of a model that is built without data, on either side."""

_SAID_ELSEWHERE: Final = {
    # What a task or a criterion says in fairseq, at its defaults there.
    "max_source_positions": 1024,
    "max_target_positions": 1024,
    "tokens_per_sample": 1024,
    "criterion": "cross_entropy",
    "label_smoothing": 0.1,
    "no_seed_provided": False,
    "tpu": False,
}


def architectures() -> dict[str, str]:
    """Architecture -> model type, of all that translate text or model it from left to right.

    Raises:
        MissingPackageError: fairseq is not installed.
    """
    need("fairseq", extra="fairseq")
    models = import_module(_MODELS)
    kinds = (
        models.FairseqEncoderDecoderModel,
        models.FairseqLanguageModel,
        models.FairseqMultiModel,
    )
    return {
        arch: name
        for arch, name in models.ARCH_MODEL_NAME_REGISTRY.items()
        if issubclass(models.MODEL_REGISTRY[name], kinds)
        and not any(part in f"{models.MODEL_REGISTRY[name].__module__}.{name}" for part in _OTHER)
    }


def build_fairseq(name: str) -> nn.Module:
    """A text architecture at its registered size, with random weights and a made-up vocabulary.

    Args:
        name: ``lstm``, as for ``--arch``.
    Raises:
        MissingPackageError: fairseq is not installed.
        ModelNotBuiltError: there is no such architecture for text, or fairseq cannot build it.
    """
    asked, known = f"fairseq:{name}", architectures()
    if name not in known:
        raise ModelNotBuiltError(
            model=asked,
            finding="there is no such architecture for text",
            hint=suggestion(name, known),
        )
    try:
        return build_arch(name, _SAID_ELSEWHERE, dictionary(VOCABULARY))
    except Exception as error:  # whatever the architecture's own code asks for
        raise ModelNotBuiltError(
            model=asked,
            finding=f"fairseq cannot build it ({type(error).__name__}: {error})",
            hint="Name another architecture, or a function: `package.module:factory`.",
        ) from error


def plan_named(model: nn.Module, config: ShareConfig, *, trained: bool | None = None) -> SharePlan:
    """`plan_fairseq` with fairseq's layer kinds: what `embshare inspect` shows.

    Raises:
        PlanError: as `embshare.plan_sharing`.
    """
    return plan_fairseq(model, config, FAIRSEQ_RULES, trained=trained)


def build_arch(arch: str, own: Mapping[str, Any], words: Any) -> nn.Module:
    """A model of an architecture with these settings, dense, at its random start."""
    models = import_module(_MODELS)
    args = _arguments(arch, own)
    _cut(args, len(words))
    task = _task_of(models.ARCH_MODEL_NAME_REGISTRY[arch], words)
    made: nn.Module = models.ARCH_MODEL_REGISTRY[arch].build_model(args, task)
    return made


def _arguments(arch: str, own: Mapping[str, Any]) -> Namespace:
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
    """Defaults of a model's dataclass, without values of other sections."""
    if known is not None:
        for name, value in vars(known()).items():
            if not hasattr(args, name) and not str(value).startswith("${"):
                setattr(args, name, value)


def _cut(args: Namespace, tokens: int) -> None:
    """Let the cutoffs of adaptive softmax and adaptive inputs lie within the vocabulary."""
    for name in ("adaptive_softmax_cutoff", "adaptive_input_cutoff"):
        given = getattr(args, name, None)
        if given and max(map(int, given.split(","))) >= tokens:
            setattr(args, name, f"{tokens // 4},{tokens // 2}")


def dictionary(tokens: int) -> Any:
    """A vocabulary of made-up words."""
    made = import_module("fairseq.data").Dictionary()
    for number in range(tokens - len(made)):
        made.add_symbol(f"w{number}")
    return made


def _task_of(model: str, words: Any) -> Any:
    """A task of fairseq for a model type: language modelling, or translation.

    Args:
        model: ``transformer_lm``.
        words: the vocabulary of both sides.
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
