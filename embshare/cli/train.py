"""``embshare train TASK``: one command for each task, with its settings as options."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from embshare.cli.application import LazyGroup, command_of
from embshare.cli.options import Fields, flags_of, option, option_name, with_options
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.packages import TRAINING as NEEDED
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TaskConfig, TrainSettings, merged

if TYPE_CHECKING:
    from embshare.tasks.runs.result import RunResult

__all__ = ["train"]

RUN: Final = "The run"
SHARING: Final = "What is shared and how (with --share)"
TRAINING: Final = "Training"


class RunOptions(BaseModel):
    """Options of the run itself, the same for every task; the config of the run checks them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str = "attention"
    """Model: lstm, conv or attention of the matched family, embshare:NAME, or a model of
    transformers by folder or hub name."""
    share: str = "none"
    """Sharing method: none, eps or veps."""
    teacher: Path | None = None
    """Folder of a run of this task whose model is distilled into this one."""
    teacher_share: float = 0.5
    """Weight of the distillation loss."""
    temperature: float = 2.0
    """Temperature of distillation."""
    seed: int = 0
    """Seed of initialization, dropout and data order."""
    out: Path | None = None
    """New folder for the model and its result. Default: runs/TASK."""
    config: Path | None = None
    """YAML file of settings, such as config.yaml beside a result, or the name of a recipe of this
    task. Options given here override it."""


def _train_one(
    task: str,
    overwrite: Annotated[
        bool, option("Replace the run in that folder.", "--overwrite", panel=RUN)
    ] = False,
    resume: Annotated[
        bool, option("Resume from the last checkpoint in that folder.", "--resume", panel=RUN)
    ] = False,
    *,
    own: dict[str, Any],
    settings: dict[str, Any],
    training: dict[str, Any],
    sharing: dict[str, Any],
) -> None:
    # Imported here, so that the command line starts at once and needs no extra for its help.
    check_packages(NEEDED, extra="hf")
    from embshare.cli.progress import StepBar
    from embshare.tasks.heap import keep_freed_memory
    from embshare.tasks.processes import process_state
    from embshare.tasks.runs.config import RunConfig, read_config_file
    from embshare.tasks.runs.engine import run

    file, method = own.pop("config", None), own.pop("share", None)
    fields = {} if file is None else read_config_file(_file(task, file))
    if fields.setdefault("task", task) != task:
        fault = f"`task`: the file is for {fields['task']!r}, the command for {task!r}"
        raise InvalidValueError(what="RunConfig", faults=[fault])
    fields |= own
    fields["share"] = share_fields(fields.get("share"), method, sharing)
    fields["settings"] = settings_fields(fields.get("settings", {}), settings, training)
    if fields.get("teacher") is None and own.keys() & {"teacher_share", "temperature"}:
        fault = "`teacher_share`, `temperature`: settings of distillation: add --teacher"
        raise InvalidValueError(what="RunConfig", faults=[fault])
    fields.setdefault("out", Path("runs") / task)
    checked = RunConfig(**fields)
    keep_freed_memory()
    with StepBar(Console(stderr=True)) as bar:
        result = run(
            checked, overwrite=overwrite, resume=resume, on_start=bar.start, on_step=bar.step
        )
    if process_state().is_main_process:
        _report(result)


def _parts(settings: type[TaskConfig]) -> dict[str, Fields]:
    """Settings of the task, of training and of sharing; a name is given to the first of them."""
    own = flags_of(settings, without={"training"})
    run = {**flags_of(RunOptions), "model": ["--arch", "--model"]}
    training = flags_of(TrainSettings)
    for name in training.keys() & {*run, *own}:
        training[name] = [option_name(f"training_{name}")]
    sharing = flags_of(ShareConfig, prefix="share_", without={"method"})  # that is --share itself
    for name in sharing.keys() - {*run, *own, *training}:
        sharing[name].append(option_name(name))
    defaults: TrainSettings = settings.model_fields["training"].default
    return {
        "own": Fields(RunOptions, run, RUN, RunOptions()),
        "settings": Fields(settings, own, defaults=settings()),
        "training": Fields(type(defaults), training, TRAINING, defaults),
        "sharing": Fields(ShareConfig, sharing, SHARING, ShareConfig()),
    }


def _file(task: str, given: Path) -> Path:
    """A file of settings, or a task's recipe by name."""
    return given if given.exists() else TASKS[task].recipes().get(str(given), given)


def share_fields(
    before: Mapping[str, Any] | None, method: str | None, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The fields of a `ShareConfig`, or ``None`` for a dense model.

    Args:
        before: from a file.
        method: ``none``, ``eps`` or ``veps``, if it was given.
        given: other fields that were given.
    Raises:
        InvalidValueError: fields of sharing for a model that is not shared.
    """
    if method == "none" or (method is None and before is None):
        if given:
            names = ", ".join(f"`{name}`" for name in given)
            fault = f"{names}: says how to share, but nothing is shared: add --share veps"
            raise InvalidValueError(what="RunConfig", faults=[fault])
        return None
    fields = dict(before or {}) | dict(given)
    return fields if method is None else fields | {"method": method}


def settings_fields(
    before: Mapping[str, Any], given: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    """A task's settings: what was given over what is in a file."""
    return {**before, **given, "training": merged(before.get("training", {}), training)}


def _report(result: RunResult) -> None:
    from embshare.cli.output import metric_table

    console = Console()
    console.print(metric_table(result.metrics, result.metric))
    console.print(
        f"{result.stored_parameters:,} parameters stored, {result.read_parameters:,} read, "
        f"{result.bytes:,} bytes; {result.steps:,} steps in {result.seconds:.0f} s.\n"
        f"The model, result.json and the curve are in {result.config.out}.",
        highlight=False,
    )


class TaskCommands(LazyGroup):
    """A command for each task, made when it is asked for."""

    def summaries(self) -> dict[str, str]:
        """The tasks, in the order of the catalogue."""
        return {name: entry.summary for name, entry in TASKS.items()}

    def load(self, name: str) -> Any:
        """A task's command."""
        summary = f"{TASKS[name].summary} Trains one model and saves it with its result."
        train_one = functools.partial(_train_one, name)
        return command_of(
            name, with_options(_parts(TASKS[name].settings_class()))(train_one), help_text=summary
        )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A task's entry; hyphens are as good as underscores."""
        return super().get_command(ctx, cmd_name.replace("-", "_"))


train = typer.Typer(
    cls=TaskCommands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@train.callback()
def _train() -> None:
    """Train one model on a task, evaluate it, and save both."""
