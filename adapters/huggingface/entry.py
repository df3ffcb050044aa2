"""The entry of a ``config.json`` that says how a folder's model is shared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from embshare._value import Value
from embshare.errors import CheckpointError, EmbshareError
from embshare.plan.values import SharePlan

__all__ = ["METHOD", "Entry", "parse"]

METHOD: Final = "embshare"
"""The name under which transformers knows sharing, as it knows ``gptq`` or ``awq``."""

FORMAT: Final = 1
PLACE: Final = "quantization_config of config.json"


class Entry(Value):
    """Content of ``quantization_config``: the plan itself, not settings to plan again with."""

    quant_method: Literal["embshare"] = METHOD
    format: Literal[1] = FORMAT
    plan: SharePlan
    ties: dict[str, str] = Field(default_factory=dict)
    """Name of a parameter -> the first name of the same one, under which it is stored."""


def parse(found: Mapping[str, Any]) -> Entry:
    """Read an entry, trusting nothing in it.

    Raises:
        CheckpointError: the format is newer, or values are invalid.
    """
    number = found.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise CheckpointError(
            path=PLACE,
            finding=f"has format {number}, newer than {FORMAT}",
            hint="Upgrade embshare.",
        )
    try:
        return Entry.from_json(json.dumps(found))  # by JSON's rules: what is read can be written
    except (EmbshareError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            path=PLACE,
            finding=f"is not what embshare wrote ({error})",
            hint="Save the model again, or take another copy of the folder.",
        ) from error
