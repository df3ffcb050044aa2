"""``embshare train TASK``: one command for each task, with its settings as options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from embshare._value import Value
from embshare.cli.options import given_part, option_name, optional_options, source_of
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS, TaskEntry
from embshare.tasks.packages import TRAINING as NEEDED
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TrainSettings, laid_over

if TYPE_CHECKING:
    from embshare.tasks.running.result import RunResult

__all__ = ["train"]

RUN: Final = "The run"
SHARING: Final = "What is shared and how (with --share)"
TRAINING: Final = "Training"
Model = Annotated[
    str | None,
    typer.Option(
        "--arch",
        "--model",
        help="lstm, conv or attention of the matched family, embshare:NAME, or a model of "
        "transformers by folder or hub name. Default: attention.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Share = Annotated[
    str | None,
    typer.Option(help="none, eps or veps. Default: none.", rich_help_panel=RUN, show_default=False),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a run of this task, whose model this one learns from too.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
TeacherShare = Annotated[
    float | None,
    typer.Option(help="Of the loss. Default: 0.5.", rich_help_panel=RUN, show_default=False),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Of what teacher and model say. Default: 2.", rich_help_panel=RUN, show_default=False
    ),
]
Seed = Annotated[int | None, typer.Option(help="Default: 0.", rich_help_panel=RUN)]
Out = Annotated[
    Path | None,
    typer.Option(help="New folder for the model and its result.", rich_help_panel=RUN),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file of settings, as config.yaml beside a result, or the name of a recipe of "
        "this task; options here win.",
        rich_help_panel=RUN,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the run in that folder.", rich_help_panel=RUN),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on from the last checkpoint in that folder.", rich_help_panel=RUN
    ),
]
OWN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "model": Model,
        "share": Share,
        "teacher": Teacher,
        "teacher_share": TeacherShare,
        "temperature": Temperature,
        "seed": Seed,
        "out": Out,
        "config": Config,
        "overwrite": Overwrite,
        "resume": Resume,
    }
)
"""Options of the run itself, of every task alike."""


class TaskCommands(TyperGroup):
    """A command for each task, made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The tasks, in the order of the catalogue."""
        return list(TASKS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A task's command; hyphens are as good as underscores."""
        name = cmd_name.replace("-", "_")
        return _command(name, TASKS[name]) if name in TASKS else None


def _command(name: str, entry: TaskEntry) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=f"{entry.summary} Trains one model and writes it with its result.")(
        _function(name, entry.settings_class())
    )
    return typer.main.get_command(single)


def _function(name: str, settings: type[Value]) -> Any:
    """The function that typer makes a command of: its parameters are the fields of all configs."""

    def run(**given: Any) -> None:
        own = {name: given.pop(name) for name in OWN}
        _run(name, own, given_part(given, ""))

    parameters = [*_own(), *_parameters(settings)]
    run.__signature__ = Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _own() -> Iterator[Parameter]:
    for name, annotation in OWN.items():
        default = False if name in ("overwrite", "resume") else None
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameters(settings: type[Value]) -> Iterator[Parameter]:
    """Settings of the task and of training, then those of sharing; a name is given once."""
    taken = set(OWN)
    own = set(settings.model_fields) - {"training"}
    yield from optional_options(
        settings, "", {name: [option_name(name)] for name in settings.model_fields if name in own}
    )
    taken |= own
    train_names = {name: [option_name(name)] for name in TrainSettings.model_fields}
    for name in taken & set(train_names):
        train_names[name] = [f"--training-{option_name(name)[2:]}"]
    yield from optional_options(TrainSettings, "training_", train_names, panel=TRAINING)
    taken |= set(train_names)
    share_names = {name: [f"--share-{option_name(name)[2:]}"] for name in ShareConfig.model_fields}
    share_names.pop("method")  # is --share itself
    for name in share_names.keys() - taken:
        share_names[name].append(option_name(name))
    yield from optional_options(ShareConfig, "share_", share_names, panel=SHARING)


def _run(name: str, own: dict[str, Any], given: dict[str, Any]) -> None:
    # Imported here, so that the command line starts at once and needs no extra for its help.
    check_packages(NEEDED, extra="hf")
    from embshare.cli.progress import StepBar
    from embshare.tasks.heap import keep_freed_memory
    from embshare.tasks.processes import process_state
    from embshare.tasks.running.config import RunConfig, read_config_file
    from embshare.tasks.running.engine import run

    fields = {} if own["config"] is None else read_config_file(_file(name, own["config"]))
    if fields.setdefault("task", name) != name:
        fault = f"`task`: the file is for {fields['task']!r}, the command for {name!r}"
        raise InvalidValueError(what="RunConfig", faults=[fault])
    for key in OWN.keys() & RunConfig.model_fields.keys() - {"share"}:
        if own[key] is not None:
            fields[key] = own[key]
    fields["share"] = share_fields(fields.get("share"), own["share"], given_part(given, "share_"))
    training = given_part(given, "training_")
    rest = {
        key: value for key, value in given.items() if not key.startswith(("share_", "training_"))
    }
    fields["settings"] = settings_fields(fields.get("settings", {}), rest, training)
    taught = any(own[name] is not None for name in ("teacher_share", "temperature"))
    if fields.get("teacher") is None and taught:
        fault = "`teacher_share`, `temperature`: say how to learn from a teacher: add --teacher"
        raise InvalidValueError(what="RunConfig", faults=[fault])
    fields.setdefault("out", Path("runs") / name)
    config = RunConfig(**fields)
    keep_freed_memory()
    with StepBar(Console(stderr=True)) as bar:
        result = run(
            config,
            overwrite=own["overwrite"],
            resume=own["resume"],
            on_start=bar.start,
            on_step=bar.step,
        )
    if process_state().is_main_process:
        _report(result)


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
    if "source" in given:
        fields["source"] = source_of(given["source"])
    return fields if method is None else fields | {"method": method}


def settings_fields(
    before: Mapping[str, Any], given: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    """A task's settings: what was given over what is in a file."""
    return {**before, **given, "training": laid_over(before.get("training", {}), training)}


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


train = typer.Typer(
    cls=TaskCommands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@train.callback()
def _train() -> None:
    """Train one model on a task, evaluate it, and write both."""
