"""Frozen values that are checked once and travel as JSON."""

from __future__ import annotations

import difflib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from embshare.errors import InvalidValueError


class Value(BaseModel):
    """A frozen value without unknown keys, whose faults are raised as `InvalidValueError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _readable(type(self), error) from None

    def to_json(self) -> str:
        """This value as indented JSON; `from_json` reads it back equal."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            InvalidValueError: not JSON, an unknown key, or a value out of range.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _readable(cls, error) from None


class Record(Value):
    """A measured value, which may be NaN or infinite: a loss that diverged, or the correlation of
    equal predictions. JSON has no such numbers, so they are strings there."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")


def _readable(kind: type[BaseModel], error: ValidationError) -> InvalidValueError:
    faults: list[str] = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"])
        within = fault.get("ctx", {}).get("error")
        if isinstance(within, InvalidValueError):  # of a value in this one
            faults += (_moved(place, inner) for inner in within.faults)
            continue
        if fault["type"] == "extra_forbidden":
            faults.append(f"`{place}`: is no field here{_near(kind, fault['loc'])}")
            continue
        has = "" if fault["type"] == "missing" else f", but is {fault['input']!r:.80}"
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"`{place}`: {message}{has}" if place else message)
    return InvalidValueError(what=kind.__name__, faults=faults)


def _near(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """The fields with names like that of one that does not exist, as the end of a sentence."""
    if len(place) > 1:  # a field of a value in this one
        return ""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    near = difflib.get_close_matches(str(place[0]), known)
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def _moved(place: str, fault: str) -> str:
    """A fault of a value, with the place that it has in the value around it."""
    if not place:
        return fault
    return f"`{place}.{fault[1:]}" if fault.startswith("`") else f"`{place}`: {fault}"
