"""`install`: the functions of fairseq that know of embshare.

fairseq has no way to change a model of any architecture after it was built, so some of its
functions are wrapped: the parsing of options, the building of models, the reading of checkpoints
and what is said when that fails, and the generators' ``generate``. Without ``--embshare`` each does
what it did before.
"""

from __future__ import annotations

import functools
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import make_dataclass
from importlib import import_module
from threading import local
from typing import Any, Final

from torch import nn
from torch.serialization import add_safe_globals

from embshare.adapters.fairseq.inference import keeping
from embshare.adapters.fairseq.options import names, options_class, read_options
from embshare.adapters.fairseq.pinning import attach_plan, keep_plan
from embshare.adapters.fairseq.sharing import share
from embshare.adapters.packages import need
from embshare.errors import EmbshareError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import require_bank
from embshare.summary import summarize

__all__ = ["install"]

Function = Callable[..., Any]
logger = logging.getLogger("embshare.fairseq")

_DONE: Final = "_embshare_wrapped"
_GENERATORS: Final = (
    ("fairseq.sequence_generator", "SequenceGenerator"),
    ("fairseq.sequence_generator", "SequenceGeneratorWithAlignment"),
    ("fairseq.sequence_scorer", "SequenceScorer"),
    ("fairseq.iterative_refinement_generator", "IterativeRefinementGenerator"),
)
_building = local()


def install() -> None:
    """Wrap fairseq's functions and give its models their options; called again, it does the rest.

    Models that are registered later (another plug-in's) need another call.

    Raises:
        MissingPackageError: fairseq is not installed.
    """
    need("fairseq", extra="fairseq")
    add_safe_globals([Namespace])  # what its own checkpoints hold, and torch >= 2.6 refuses to read
    models = import_module("fairseq.models")
    _wrap(models, "build_model", _build)
    _wrap(import_module("fairseq.options"), "parse_args_and_arch", _parse)
    _wrap(import_module("fairseq.trainer").Trainer, "load_checkpoint", _tell)
    checkpoints = import_module("fairseq.checkpoint_utils")
    for name in ("load_checkpoint_to_cpu", "load_ema_from_checkpoint"):
        _wrap(checkpoints, name, _read)
    for module, name in _GENERATORS:
        owner = getattr(import_module(module), name)
        if "generate" in vars(owner):
            _wrap(owner, "generate", keeping)
    _extend_dataclasses(models)


def _wrap(owner: Any, name: str, wrapper: Callable[[Function], Function]) -> None:
    """Replace an attribute, once."""
    function = getattr(owner, name)
    if hasattr(function, _DONE):
        return
    wrapped = wrapper(function)
    setattr(wrapped, _DONE, True)
    setattr(owner, name, wrapped)


def _build(build: Function) -> Function:
    """``fairseq.models.build_model``: the outermost model is shared, not what it builds inside."""

    @functools.wraps(build)
    def run(cfg: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = read_options(cfg)
        if wanted is None or getattr(_building, "busy", False):
            return build(cfg, task, *args, **kwargs)
        _building.busy = True
        try:
            model = build(cfg, task, *args, **kwargs)
        finally:
            _building.busy = False
        # With a plan the weights come from the checkpoint that holds it, or from a random start.
        share(model, wanted)
        keep_plan(model, cfg)
        _report(model, isinstance(wanted, SharePlan))
        return model

    return run


def _report(model: nn.Module, pinned: bool) -> None:
    logger.info("shared by %s:\n%s", "the given plan" if pinned else "settings", summarize(model))
    for left in require_bank(model).plan.left_dense:
        logger.info("left dense: %s (%s): %s", left.weight, f"{left.numel:,}", left.reason)


def _parse(parse: Function) -> Function:
    """``fairseq.options.parse_args_and_arch``: adds the options, and checks them all at once."""

    @functools.wraps(parse)
    def run(parser: ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if "--arch" in parser._option_string_actions:
            _add_options(parser)
        parsed = parse(parser, *args, **kwargs)
        try:
            read_options(parsed[0] if isinstance(parsed, tuple) else parsed)
        except EmbshareError as error:
            parser.error(str(error))
        return parsed

    return run


def _add_options(parser: ArgumentParser) -> None:
    """Options that the parser has already are left alone."""
    utils = import_module("fairseq.dataclass.utils")
    if "--embshare" not in parser._option_string_actions:
        utils.gen_parser_from_dataclass(
            parser.add_argument_group("embshare"), options_class()(), delete_default=False
        )


def _read(load: Function) -> Function:
    """``load_checkpoint_to_cpu``: weights bring their plan along."""

    @functools.wraps(load)
    def run(*args: Any, **kwargs: Any) -> Any:
        checkpoint = load(*args, **kwargs)
        attach_plan(checkpoint)
        return checkpoint

    return run


def _tell(load: Function) -> Function:
    """``Trainer.load_checkpoint``, which hides what was wrong behind a general message."""

    @functools.wraps(load)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return load(*args, **kwargs)
        except Exception as error:
            for cause in _causes(error):
                if isinstance(cause, EmbshareError):
                    raise cause from None
            raise

    return run


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _extend_dataclasses(models: Any) -> None:
    """Models that are configured by a dataclass know only its fields; they get ours as well."""
    options = options_class()
    store = import_module("hydra.core.config_store").ConfigStore.instance()
    for name, known in list(models.MODEL_DATACLASS_REGISTRY.items()):
        if names()[0] in known.__dataclass_fields__:
            continue
        extended = make_dataclass(known.__name__, [], bases=(known, options))
        extended.__module__ = known.__module__
        models.MODEL_DATACLASS_REGISTRY[name] = extended
        setattr(models.MODEL_REGISTRY[name], "__dataclass", extended)
        node = extended()
        node._name = name
        store.store(name=name, group="model", node=node, provider="fairseq")
