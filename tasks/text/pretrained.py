"""Runs whose trained table, layers and vocabulary initialize other models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import safetensors
import torch
from pydantic import Field
from torch import Tensor, nn

from embshare._value import Value
from embshare.errors import EmbshareError
from embshare.tasks.building import has_weights, is_matched
from embshare.tasks.text.errors import PretrainedRunError
from embshare.transfer import load_part

__all__ = ["SIZES", "PretrainedRun", "Sizes"]

CONFIG: Final = "config.yaml"
SIZES: Final = "sizes.json"
WEIGHTS: Final = "model.safetensors"
TRUNK: Final = ("embedding", "backbone")


class Sizes(Value):
    """Sizes of a matched model's table and layers; those of another must be equal to load them."""

    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kernel_size: int = Field(ge=1)

    def save(self, folder: Path) -> None:
        """Write a file that `load` reads."""
        (folder / SIZES).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote.

        Raises:
            PretrainedRunError: the file is missing or not as it was written.
        """
        try:
            return cls.from_json((folder / SIZES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            finding = f"its {SIZES} cannot be read ({error})"
            raise _no_run(folder, finding) from error


@final
@dataclass(frozen=True)
class PretrainedRun:
    """A folder that `embshare train` wrote: ``config.yaml``, ``processor`` and ``model``.

    Any task will do whose model has the trunk of the matched family (``embedding`` and
    ``backbone``, read in both directions), or is one of transformers.
    """

    root: Path
    model: str
    """Name that the model was built from."""
    sizes: Sizes | None
    """Sizes of a matched model."""

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read what a run has trained; weights are read later.

        Raises:
            PretrainedRunError: it is no run, or an unfinished one.
        """
        from embshare.tasks.runs.config import read_config_file

        try:
            fields = read_config_file(root / CONFIG)
        except EmbshareError as error:
            raise _no_run(root, f"its {CONFIG} cannot be read ({error})") from error
        if not (root / "model").is_dir() or not has_weights(root / "model"):
            raise _no_run(root, "it holds no trained model")
        name = str(fields.get("model", ""))
        return cls(root, name, _sizes(root, fields) if is_matched(name) else None)

    @property
    def tokenizer(self) -> str:
        """The folder of its vocabulary."""
        return str(self.root / "processor")

    @property
    def weights(self) -> Path:
        """The folder of its model."""
        return self.root / "model"

    def fill(self, model: nn.Module) -> None:
        """Load the trunk into a dense matched model; its head stays as it is.

        If the run's model is shared, the other is shared by the same plan, with a dense head.

        Raises:
            PretrainedRunError: a part of the trunk is missing, or of another shape.
            CheckpointError: the files of a shared model are not as they were written.
        """
        if (self.weights / "embshare.json").is_file():
            untouched = load_part(self.weights, model, parts=TRUNK)
        else:
            untouched = self._fill_dense(model)
        if missing := [name for name in untouched if _of_trunk(name)]:
            raise _no_run(self.root, f"its model has no `{missing[0]}`")

    @torch.no_grad()
    def _fill_dense(self, model: nn.Module) -> tuple[str, ...]:
        saved, untouched = _read(self.weights / WEIGHTS), []
        for name, parameter in model.named_parameters():
            if name not in saved:
                untouched.append(name)
            elif not _of_trunk(name):  # a head of the same name is of another task
                untouched.append(name)
            elif saved[name].shape != parameter.shape:
                shapes = f"{tuple(saved[name].shape)}, and not {tuple(parameter.shape)}"
                raise _no_run(self.root, f"`{name}` of its model is {shapes}")
            else:
                parameter.copy_(saved[name])
        return tuple(untouched)


def _of_trunk(name: str) -> bool:
    return name.partition(".")[0] in TRUNK


def _sizes(root: Path, fields: dict[str, Any]) -> Sizes:
    """Sizes of a run; one that was initialized from another run has them beside its vocabulary."""
    if (root / "processor" / SIZES).is_file():
        return Sizes.load(root / "processor")
    settings = fields.get("settings") or {}
    try:
        return Sizes.from_json(json.dumps({n: settings.get(n) for n in Sizes.model_fields}))
    except EmbshareError as error:
        raise _no_run(root, f"its {CONFIG} does not say how large its model is ({error})") from None


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; a tied one under each of its names."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            names = {name: name for name in file.keys()}
            for alias, first in (file.metadata() or {}).items():
                if first in names:
                    names.setdefault(alias, first)
            return {name: file.get_tensor(first) for name, first in names.items()}
    except (OSError, safetensors.SafetensorError) as error:
        finding = f"its {WEIGHTS} cannot be read ({error})"
        raise _no_run(path.parent.parent, finding) from error


def _no_run(folder: Path, finding: str) -> PretrainedRunError:
    return PretrainedRunError(
        folder=folder,
        finding=finding.rstrip("."),
        hint="Name a folder that `embshare train pretraining` wrote to its end.",
    )
