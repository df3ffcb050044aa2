"""The folder of one run: who may write to it, and what stands where."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, final

from embshare.errors import EmbshareError
from embshare.tasks.running.config import RunConfig

__all__ = ["NoRunError", "OtherRunError", "RunExistsError", "RunFolder", "write_text"]

CONFIG: Final = "config.yaml"
RESULT: Final = "result.json"
MINE: Final = ("processor", "model", "checkpoints", "samples")


class RunExistsError(EmbshareError, FileExistsError):
    """The folder for a run holds something already."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a new or an empty folder, but is neither. Name another with "
            "--out, replace the run in it with --overwrite, or go on with --resume."
        )
        self.folder = folder


class OtherRunError(EmbshareError, ValueError):
    """A run is to go on with other settings than it began with."""

    def __init__(self, *, folder: Path, fields: list[str]) -> None:
        super().__init__(
            f"the run in `{folder}` must go on with the settings that it began with, but "
            f"{', '.join(f'`{name}`' for name in fields)} changed. Leave them as they are in "
            f"{folder / CONFIG}, or name another --out."
        )
        self.folder, self.fields = folder, fields


class NoRunError(EmbshareError, ValueError):
    """A folder holds no run."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a folder that `embshare train` wrote, but has no {CONFIG}. "
            "Name the folder that was given as --out."
        )
        self.folder = folder


@final
class RunFolder:
    """Where the parts of a run are; nothing is made before `open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config, self.result = root / CONFIG, root / RESULT
        self.processor, self.model = root / "processor", root / "model"
        self.checkpoints, self.samples = root / "checkpoints", root / "samples"
        self.curve = root / "curve.json"

    def check(self, config: RunConfig, *, overwrite: bool, resume: bool) -> None:
        """Refuse what must not be written to, before any work.

        Raises:
            RunExistsError: it holds something, and neither was asked for.
            OtherRunError: the run in it began with other settings.
        """
        if not self.root.exists() or overwrite:
            return
        if not self.root.is_dir() or (any(self.root.iterdir()) and not resume):
            raise RunExistsError(folder=self.root)
        if resume and self.config.is_file():
            before = RunConfig.from_yaml(self.config)
            if changed := differences(before, config):
                raise OtherRunError(folder=self.root, fields=changed)

    def open(self, config: RunConfig, *, overwrite: bool) -> None:
        """Make the folder; of an earlier run, remove what a run writes and nothing else."""
        if overwrite:
            for name in MINE:
                shutil.rmtree(self.root / name, ignore_errors=True)
            for path in (self.config, self.result, *self.root.glob("curve.*")):
                path.unlink(missing_ok=True)
        for folder in (self.root, self.processor, self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(self.config, config.to_yaml())

    def read_config(self) -> RunConfig:
        """The settings of the run.

        Raises:
            NoRunError: there is none.
        """
        if not self.config.is_file():
            raise NoRunError(folder=self.root)
        return RunConfig.from_yaml(self.config)


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """The fields, with dots between, in which two runs differ; where they are written is none."""
    left, right = (dict(_flat(config.model_dump(mode="json"))) for config in (one, other))
    names = sorted(left.keys() | right.keys())
    return [name for name in names if name != "out" and left.get(name) != right.get(name)]


def _flat(fields: dict[str, object], before: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((before + name, value))
    return found


def write_text(path: Path, text: str) -> None:
    """All or nothing: whoever reads sees the old file or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    part.replace(path)
