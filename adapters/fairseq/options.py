"""``--embshare veps --embshare-factor 128 …``: options of fairseq from the fields of a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any, Final, Literal, Optional, get_args, get_origin

from embshare.adapters.packages import need
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.plan.values import SharePlan

__all__ = ["METHOD", "PLAN", "Wanted", "names", "options_class", "read_options"]

METHOD: Final = "embshare"
"""The option that asks for sharing, and says by which method."""
PLAN: Final = "embshare_plan"
"""A file with a plan; in a checkpoint the plan itself, as JSON."""
_PREFIX: Final = "embshare_"

Wanted = ShareConfig | SharePlan | None
"""Sharing settings of the options; ``None`` is a dense model."""
_TEXT: Final[Any] = Optional[str]  # noqa: UP045 (fairseq knows optional fields by this spelling)


def names() -> tuple[str, ...]:
    """Every option's name as fairseq's configurations spell it: ``embshare_factor``."""
    fields = (name for name in ShareConfig.model_fields if name != "method")
    return (METHOD, *(f"{_PREFIX}{name}" for name in fields), PLAN)


def options_class() -> type:
    """A dataclass of fairseq with one optional field for each option."""
    base = need("fairseq.dataclass", extra="fairseq").FairseqDataclass
    return make_dataclass("EmbshareOptions", list(_fields()), bases=(base,))


def _fields() -> Iterator[tuple[str, Any, Any]]:
    methods = _choices(ShareConfig.model_fields["method"].annotation)
    yield METHOD, _TEXT, _field(f"derive weights from the embedding table: {methods}")
    for name, about in ShareConfig.model_fields.items():
        if name != "method":
            choices = _choices(about.annotation)
            kind = bool if about.annotation is bool else _TEXT
            text = f"ShareConfig.{name}" + (f": {choices}" if choices else "")
            yield f"{_PREFIX}{name}", kind, _field(text, default=False if kind is bool else None)
    yield PLAN, _TEXT, _field("a plan to share by, in a JSON file, instead of settings")


def _field(text: str, *, default: bool | None = None) -> Any:
    return field(default=default, metadata={"help": text})


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    return ""


def read_options(cfg: Any) -> Wanted:
    """Sharing settings of a model's configuration, or the plan in it.

    Args:
        cfg: a Namespace, a DictConfig, or any mapping.
    Raises:
        InvalidValueError: settings without a method, values that cannot be, or settings that say
            something else than the plan; all that is wrong is listed.
    """
    given = {name: _get(cfg, name) for name in names()}
    given = {name: value for name, value in given.items() if value not in (None, False, "")}
    plan = given.pop(PLAN, None)
    method = given.pop(METHOD, None)
    if plan is None and method is None and given:
        faults = [f"{flag(name)} needs {flag(METHOD)} veps, eps or own" for name in given]
        raise InvalidValueError(what="the fairseq command line", faults=faults)
    if (plan or method) and (fault := _quantised(cfg)):
        raise InvalidValueError(what="the fairseq command line", faults=[fault])
    config = None if method is None else _config(method, given)
    if plan is None:
        return config
    pinned = _plan(str(plan))
    if config is None and given:
        faults = [f"{flag(name)} is said by the plan already" for name in given]
        raise InvalidValueError(what="the fairseq command line", faults=faults)
    _agree(config, pinned)
    return pinned


def flag(name: str) -> str:
    """``embshare_factor`` as people type it."""
    return "--" + name.replace("_", "-")


def _get(cfg: Any, name: str) -> Any:
    return cfg.get(name) if isinstance(cfg, Mapping) else getattr(cfg, name, None)


def _quantised(cfg: Any) -> str:
    """fairseq's noise writes into weights, which a derived one would forget in silence."""
    for name in ("quant_noise_pq", "quant_noise_scalar"):
        if float(_get(cfg, name) or 0) > 0:
            return f"{flag(name)} rewrites weights and cannot be used with {flag(METHOD)}"
    return ""


def _config(method: str, given: Mapping[str, Any]) -> ShareConfig:
    fields = {name.removeprefix(_PREFIX): value for name, value in given.items()}
    values: dict[str, Any] = {name: _value(name, value) for name, value in fields.items()}
    values["method"] = method
    return ShareConfig(**values)


def _value(name: str, value: Any) -> Any:
    """Text as the config takes it; numbers are left to the config, which checks them."""
    if not isinstance(value, str):
        return value
    if name == "source":
        return _source(value)
    annotation = ShareConfig.model_fields[name].annotation
    return tuple(value.split(",")) if get_origin(annotation) is tuple else value


def _source(text: str) -> str | dict[str, str]:
    """``NAME``, or ``GLOB=NAME,GLOB=NAME``."""
    if "=" not in text:
        return text
    pairs = [entry.partition("=") for entry in text.split(",")]
    if wrong := [entry for entry in pairs if not all(entry)]:
        fault = f"`source`: must be NAME or GLOB=NAME,GLOB=NAME, but has {''.join(wrong[0])!r}"
        raise InvalidValueError(what="ShareConfig", faults=[fault])
    return {glob: name for glob, _, name in pairs}


def _plan(text: str) -> SharePlan:
    if text.lstrip().startswith("{"):
        return SharePlan.from_json(text)
    try:
        return SharePlan.from_json(Path(text).read_bytes())
    except OSError as error:
        fault = f"{flag(PLAN)}: `{text}` cannot be read ({error.strerror or error})"
        raise InvalidValueError(what="the fairseq command line", faults=[fault]) from error


def _agree(config: ShareConfig | None, plan: SharePlan) -> None:
    if config is None:
        return
    mine, its = config.model_dump(), plan.config.model_dump()
    if config.source == "auto":
        its["source"] = "auto"
    faults = [
        f"`{name}` is {mine[name]!r} in the options and {its[name]!r} in the plan"
        for name in mine
        if mine[name] != its[name]
    ]
    if faults:
        raise InvalidValueError(what="the fairseq command line", faults=faults)
