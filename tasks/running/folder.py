"""The folder of one run: who may write to it, and what stands where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from embshare.errors import EmbshareError
from embshare.tasks.running.config import ConfigFileError, RunConfig, is_task, read_config_file

__all__ = [
    "RESULT",
    "ForeignFolderError",
    "NoFolderError",
    "NoRunError",
    "OtherBeginError",
    "OtherRunError",
    "RunExistsError",
    "RunFolder",
    "differences",
    "write_text",
]

CONFIG: Final = "config.yaml"
BEGIN: Final = "begin.json"
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


class OtherBeginError(EmbshareError, ValueError):
    """A run is to go on with other data, or other processes, than it began with."""

    def __init__(self, *, folder: Path, fields: list[str]) -> None:
        super().__init__(
            f"the run in `{folder}` must go on with the data and as many processes as it began "
            f"with, but {', '.join(f'`{name}`' for name in fields)} changed. Put back what "
            f"{folder / BEGIN} says, or name another --out."
        )
        self.folder, self.fields = folder, fields


class NoFolderError(EmbshareError, OSError):
    """A folder cannot be made or written to."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a folder that can be made and written to, but: {finding}. Name "
            "another with --out."
        )
        self.folder, self.finding = folder, finding


class ForeignFolderError(EmbshareError, FileExistsError):
    """Files of somebody else stand where a run, or a benchmark, would write."""

    def __init__(self, *, folder: Path, found: Path, needs: str = CONFIG) -> None:
        super().__init__(
            f"`{folder}` must hold results to replace them or to go on, but has no {needs} of "
            f"ours, and `{found.relative_to(folder)}` would be lost. Name another with --out."
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
    """Where the parts of a run are; nothing is made before `open`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config, self.result = root / CONFIG, root / RESULT
        self.processor, self.model = root / "processor", root / "model"
        self.checkpoints, self.samples = root / "checkpoints", root / "samples"
        self.begin, self.curve = root / BEGIN, root / "curve.json"

    def check(self, config: RunConfig, *, overwrite: bool, resume: bool) -> None:
        """Refuse what must not be written to, before any work.

        Raises:
            RunExistsError: it holds something, and neither was asked for.
            ForeignFolderError: it holds no run, and files that a run would write over.
            OtherRunError: the run in it began with other settings.
        """
        if not self.root.exists():
            return
        if not self.root.is_dir() or (any(self.root.iterdir()) and not (resume or overwrite)):
            raise RunExistsError(folder=self.root)
        if not self.is_run() and (found := next(self.parts(), None)):
            raise ForeignFolderError(folder=self.root, found=found)
        if resume and self.config.is_file():
            before = RunConfig.from_yaml(self.config)
            if changed := differences(before, config):
                raise OtherRunError(folder=self.root, fields=changed)

    def parts(self) -> Iterator[Path]:
        """The files at which a run would write, but for those in folders of other names."""
        for name in MINE:
            yield from (path for path in (self.root / name).rglob("*") if path.is_file())
        picture = self.curve.with_suffix(".png")
        files = (self.config, self.begin, self.result, self.curve, picture)
        yield from (path for path in files if path.is_file())

    def is_run(self) -> bool:
        """Whether a run was begun in it, perhaps one of an earlier version."""
        try:
            return is_task(read_config_file(self.config).get("task"))
        except ConfigFileError:
            return False

    def clear(self) -> None:
        """Remove what a run writes, and nothing else."""
        for name in MINE:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for path in sorted(self.parts(), key=lambda path: path == self.config):
            path.unlink()  # the settings last: by them the rest is known to be a run's

    def check_begin(self, begin: Mapping[str, object]) -> None:
        """Refuse to go on with a run that began otherwise, as far as it is known.

        Args:
            begin: As it would be given to `open`.
        Raises:
            OtherBeginError: it differs.
        """
        if self.begin.is_file():
            before = json.loads(self.begin.read_text(encoding="utf-8"))
            if changed := _changed(before, json.loads(json.dumps(begin))):
                raise OtherBeginError(folder=self.root, fields=changed)

    def open(
        self, config: RunConfig, *, overwrite: bool, begin: Mapping[str, object] | None = None
    ) -> None:
        """Make the folder; of an earlier run, remove what a run writes and nothing else.

        Args:
            config: Of the run.
            overwrite: Whether the earlier run goes.
            begin: What else the run has to go on with, as JSON can hold it.
        Raises:
            NoFolderError: the system does not allow it.
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
        """The settings of the run.

        Raises:
            NoRunError: there is none.
        """
        if not self.config.is_file():
            raise NoRunError(folder=self.root)
        return RunConfig.from_yaml(self.config)


def differences(one: RunConfig, other: RunConfig) -> list[str]:
    """The fields, with dots between, in which two runs differ; where they are written is none."""
    left, right = (config.model_dump(mode="json", exclude={"out"}) for config in (one, other))
    return _changed(left, right)


def _changed(one: dict[str, object], other: dict[str, object]) -> list[str]:
    left, right = dict(_flat(one)), dict(_flat(other))
    return [
        name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)
    ]


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
