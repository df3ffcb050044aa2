"""The folder of one run: its files, and checks before they are written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from embshare.errors import EmbshareError
from embshare.tasks.checkpoints import Checkpoint, read_checkpoints
from embshare.tasks.runs.config import ConfigFileError, RunConfig, is_task, read_config_file
from embshare.tasks.settings import FORMER

__all__ = [
    "RESULT",
    "ForeignFolderError",
    "NoCheckpointError",
    "NoFolderError",
    "NoRunError",
    "OtherRunError",
    "RunExistsError",
    "RunFolder",
    "TooFewStepsError",
    "differences",
    "write_text",
]

CONFIG: Final = "config.yaml"
BEGIN: Final = "begin.json"
RESULT: Final = "result.json"
MINE: Final = ("processor", "model", "checkpoints", "samples")
EXTENDED: Final = {"settings.training.steps", "settings.training.epochs"}
"""Fields that may differ when a run is resumed: it is made longer."""


class RunExistsError(EmbshareError, FileExistsError):
    """The folder for a run is not empty."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a new or an empty folder, but is neither. Name another with "
            "--out, replace the run in it with --overwrite, or resume it with --resume."
        )
        self.folder = folder


class OtherRunError(EmbshareError, ValueError):
    """A run cannot be resumed with settings, data or processes that differ from its own."""

    def __init__(self, *, folder: Path, fields: list[str], file: str = CONFIG) -> None:
        super().__init__(
            f"the run in `{folder}` must be resumed as it began, but "
            f"{', '.join(f'`{name}`' for name in fields)} changed. Leave them as they are in "
            f"{folder / file}, or name another --out. Only its length may grow."
        )
        self.folder, self.fields = folder, fields


class NoCheckpointError(EmbshareError, ValueError):
    """A finished run has no checkpoint to resume from."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"the run in `{folder}` is finished, and must have a checkpoint in `checkpoints` to be "
            "resumed, but has none: its model has no state of the optimizer. Train it anew with "
            "--overwrite, or name another --out."
        )
        self.folder = folder


class TooFewStepsError(EmbshareError, ValueError):
    """A run is to be resumed with fewer steps than it has made."""

    def __init__(self, *, folder: Path, made: int, steps: int) -> None:
        super().__init__(
            f"`steps` must be at least the {made:,} that the run in `{folder}` has made, but is "
            f"{steps:,}. Ask for more, or name another --out."
        )
        self.folder, self.made, self.steps = folder, made, steps


class NoFolderError(EmbshareError, OSError):
    """A folder cannot be made or written to."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a folder that can be made and written to, but: {finding}. Name "
            "another with --out."
        )
        self.folder, self.finding = folder, finding


class ForeignFolderError(EmbshareError, FileExistsError):
    """A run or a benchmark would overwrite files that are not its own."""

    def __init__(self, *, folder: Path, found: Path, needs: str = CONFIG) -> None:
        super().__init__(
            f"`{folder}` must hold results to replace or resume, but has no {needs} of ours, "
            f"and `{found.relative_to(folder)}` would be lost. Name another with --out."
        )
        self.folder, self.found = folder, found


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
    """Paths in the folder of a run; nothing is written before `open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config, self.result = root / CONFIG, root / RESULT
        self.processor, self.model = root / "processor", root / "model"
        self.checkpoints, self.samples = root / "checkpoints", root / "samples"
        self.begin, self.curve = root / BEGIN, root / "curve.json"

    def check(self, config: RunConfig, *, overwrite: bool, resume: bool) -> None:
        """Check before any work that the folder may be written to.

        Raises:
            RunExistsError: it is not empty, and neither ``overwrite`` nor ``resume`` is set.
            ForeignFolderError: it holds no run, but files that a run would overwrite.
            OtherRunError: the run in it differs in more than its length.
            NoCheckpointError: it is finished, and nothing is there to resume it from.
            TooFewStepsError: it has made more steps than are asked for.
        """
        if not self.root.exists():
            return
        if not self.root.is_dir() or (any(self.root.iterdir()) and not (resume or overwrite)):
            raise RunExistsError(folder=self.root)
        if not self.is_run() and (found := next(self.parts(), None)):
            raise ForeignFolderError(folder=self.root, found=found)
        if resume and self.config.is_file():
            changed = differences(RunConfig.from_yaml(self.config), config)
            if not EXTENDED.issuperset(changed):
                raise OtherRunError(folder=self.root, fields=changed)
            if self.result.is_file() and self.last() is None:
                raise NoCheckpointError(folder=self.root)
            if changed and config.training.epochs is None:
                self.check_steps(config.training.steps)

    def last(self) -> Checkpoint | None:
        """The last checkpoint that was written completely."""
        found = read_checkpoints(self.checkpoints)
        return found[-1] if found else None

    def check_steps(self, steps: int) -> None:
        """Check that a run to resume has not made more steps than it is to have.

        Raises:
            TooFewStepsError: it has.
        """
        made = 0 if (last := self.last()) is None else last.step
        if made > steps:
            raise TooFewStepsError(folder=self.root, made=made, steps=steps)

    def parts(self) -> Iterator[Path]:
        """Existing files that a run would overwrite."""
        for name in MINE:
            yield from (path for path in (self.root / name).rglob("*") if path.is_file())
        plot = self.curve.with_suffix(".png")
        files = (self.config, self.begin, self.result, self.curve, plot)
        yield from (path for path in files if path.is_file())

    def is_run(self) -> bool:
        """Whether the folder holds a run, perhaps of an earlier version."""
        try:
            return is_task(read_config_file(self.config).get("task"))
        except ConfigFileError:
            return False

    def clear(self) -> None:
        """Remove the files of a run, and no others."""
        for name in MINE:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for path in sorted(self.parts(), key=lambda path: path == self.config):
            path.unlink()  # the settings last: they show that the other files belong to a run

    def check_begin(self, begin: Mapping[str, object]) -> None:
        """Check that a run to resume had the same data and processes, if that was recorded.

        Args:
            begin: data and processes, as for `open`.
        Raises:
            OtherRunError: they differ.
        """
        if self.begin.is_file():
            before = json.loads(self.begin.read_text(encoding="utf-8"))
            now = json.loads(json.dumps(begin))
            if changed := _changed(_by_current_names(before), _by_current_names(now)):
                raise OtherRunError(folder=self.root, fields=changed, file=BEGIN)

    def open(
        self, config: RunConfig, *, overwrite: bool, begin: Mapping[str, object] | None = None
    ) -> None:
        """Make the folder and write the settings.

        Args:
            config: settings of the run.
            overwrite: remove the files of an earlier run.
            begin: data and processes that a resumed run must have too, of JSON's types.
        Raises:
            NoFolderError: the operating system does not allow it.
        """
        if overwrite:
            self.clear()
        try:
            for folder in (self.root, self.processor, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(self.config, config.to_yaml())
            if begin is not None:
                write_text(self.begin, json.dumps(begin, indent=2, ensure_ascii=False))
        except OSError as error:
            finding = error.strerror or str(error)
            raise NoFolderError(folder=self.root, finding=finding) from error

    def read_config(self) -> RunConfig:
        """Read the settings of the run.

        Raises:
            NoRunError: there is no run.
        """
        if not self.config.is_file():
            raise NoRunError(folder=self.root)
        return RunConfig.from_yaml(self.config)


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """List the fields, with dots between, in which two runs differ, besides their folder."""
    left, right = (config.model_dump(mode="json", exclude={"out"}) for config in (one, other))
    return _changed(left, right)


def _changed(one: dict[str, object], other: dict[str, object]) -> list[str]:
    left, right = dict(_flat(one)), dict(_flat(other))
    return [
        name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)
    ]


def _by_current_names(fields: Mapping[str, object]) -> dict[str, object]:
    return {
        FORMER.get(name, name): _by_current_names(value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


def _flat(fields: dict[str, object], before: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((before + name, value))
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: readers see the old content or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    part.replace(path)
