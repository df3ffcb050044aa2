"""``embshare bench`` and ``embshare report``: models compared, and the comparison shown again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from embshare.cli.options import (
    given_part,
    option_name,
    optional_options,
    read_value,
    source_of,
)
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TrainSettings, laid_over

if TYPE_CHECKING:
    from embshare.tasks.benchmark.config import BenchmarkConfig
    from embshare.tasks.benchmark.report import BenchmarkReport

__all__ = ["bench", "report"]

SHARING: Final = "How EPS and VEPS share"
EVERY: Final = "Settings of every task that has them"
SIZES: Final = ("width", "layers", "heads", "dropout")


def _option(help_text: str, *names: str) -> Any:
    """An option whose default is the config's own, so that it is written once."""
    return typer.Option(*names, help=help_text, show_default=False)


def _compare(
    task: Annotated[
        list[str] | None, _option(f"{', '.join(TASKS)}; may be given several times.")
    ] = None,
    data: Annotated[
        list[str] | None,
        _option("TASK=FOLDER, real data in place of the built-in; a FOLDER alone for one task."),
    ] = None,
    out: Annotated[Path | None, _option("New folder for results; else runs/bench.")] = None,
    overwrite: Annotated[
        bool, _option("Replace the results in that folder.", "--overwrite")
    ] = False,
    resume: Annotated[
        bool, _option("Keep those models in that folder that need no new training.", "--resume")
    ] = False,
    quick: Annotated[
        bool, _option("One seed and little training: to see that everything works.", "--quick")
    ] = False,
    architecture: Annotated[
        list[str] | None, _option("lstm, conv or attention; may be given several times.")
    ] = None,
    method: Annotated[
        list[str] | None, _option("dense, eps or veps; may be given several times.")
    ] = None,
    seed: Annotated[
        list[int] | None, _option("One model for each; may be given several times.")
    ] = None,
    jobs: Annotated[int | None, _option("Models that are trained at once.")] = None,
    shared_hidden_lr: Annotated[
        float | None, _option("--hidden-lr of the models that share; else that of dense ones.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TASK.NAME=VALUE",
            help="A setting of one task; several times. Options of `embshare train TASK` are the "
            "names.",
            show_default=False,
        ),
    ] = None,
    **given: Any,
) -> None:
    """Compare dense, EPS and VEPS models of three architectures on every task at one budget.

    Trains every model, prints a table for each task, and writes results.json, pictures and
    report.html. Without options it ends within five minutes on two cores, with --quick within one.
    """
    from embshare.tasks.benchmark.config import standard_tasks

    tasks = tuple(task or standard_tasks())
    fields: dict[str, Any] = {
        "tasks": tasks,
        "settings": _settings(tasks, data or [], set_ or [], given),
    }
    if shared := given_part(given, "share_"):
        fields["share"] = _share(shared)
    own = {"out": out, "jobs": jobs, "shared_hidden_lr": shared_hidden_lr}
    for name, value in own.items():
        if value is not None:
            fields[name] = value
    for name, values in (("architectures", architecture), ("methods", method), ("seeds", seed)):
        if values:
            fields[name] = tuple(values)
    _run(fields, quick=quick, overwrite=overwrite, resume=resume)


def _check_quick(config: BenchmarkConfig) -> None:
    """Refuse what a quick benchmark would take no notice of."""
    epochs = any(config.training(task).epochs is not None for task in config.tasks)
    several = len(config.seeds) > 1
    if ignored := ["--epochs"] * epochs + ["more than one --seed"] * several:
        fault = f"`--quick`: has one seed and few steps, so leave out {' and '.join(ignored)}"
        raise InvalidValueError(what="benchmark", faults=[fault])


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting of training and sharing, and for sizes."""
    own = list(Signature.from_callable(command, eval_str=True).parameters.values())[:-1]
    parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in [*own, *_shared_options()]]

    def bench(**given: Any) -> None:
        command(**given)

    bench.__doc__ = command.__doc__
    bench.__signature__ = Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    bench.__annotations__ = {p.name: p.annotation for p in parameters}
    return bench


def _shared_options() -> Iterator[Parameter]:
    from embshare.tasks.language_modelling.config import LanguageModellingConfig

    sizes = {name: [option_name(name)] for name in SIZES}
    yield from optional_options(LanguageModellingConfig, "size_", sizes, panel=EVERY)
    training = {name: [option_name(name)] for name in TrainSettings.model_fields}
    yield from optional_options(TrainSettings, "training_", training, panel=EVERY)
    share = {
        name: [option_name(name)]
        for name in ShareConfig.model_fields
        if name not in ("method", "width")
    }
    share["width"] = ["--share-width"]
    yield from optional_options(ShareConfig, "share_", share, panel=SHARING)


def _share(given: Mapping[str, Any]) -> dict[str, Any]:
    from embshare.tasks.benchmark.config import BenchmarkConfig

    default: ShareConfig = BenchmarkConfig.model_fields["share"].default
    fields = default.model_dump() | dict(given)
    if "source" in given:
        fields["source"] = source_of(given["source"])
    return fields


def _settings(
    tasks: tuple[str, ...], data: list[str], changes: list[str], given: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Each task's settings as far as they were given."""
    settings: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for name in tasks:
        if name not in TASKS:
            continue  # the config says what is wrong
        known = TASKS[name].settings_class().model_fields
        sizes = given_part(given, "size_")
        settings[name] |= {key: value for key, value in sizes.items() if key in known}
        if training := given_part(given, "training_"):
            settings[name]["training"] = training
    for entry in changes:
        _change(settings, entry)
    for entry in data:
        _data(settings, entry)
    return settings


def _change(settings: dict[str, dict[str, Any]], entry: str) -> None:
    """``TASK.NAME=VALUE``, and ``TASK.training.NAME=VALUE``, with the value as YAML reads it."""
    place, sign, value = entry.partition("=")
    task, dot, name = place.partition(".")
    if not (sign and dot and name) or task not in settings:
        tasks = ", ".join(settings)
        fault = f"`--set`: must be TASK.NAME=VALUE with a task of {tasks}, but is {entry!r}"
        raise InvalidValueError(what="benchmark", faults=[fault])
    fields, found = settings[task], read_value(entry, value)
    if not name.startswith("training."):
        fields[name] = found
        return
    training = fields.get("training", {})
    if not isinstance(training, Mapping):
        fault = f"`--set`: {entry!r} is of what was said to be {training!r} before"
        raise InvalidValueError(what="benchmark", faults=[fault])
    fields["training"] = laid_over(training, {name.removeprefix("training."): found})


def _data(settings: dict[str, dict[str, Any]], entry: str) -> None:
    task, sign, folder = entry.partition("=")
    if not sign and len(settings) == 1:
        (task,), folder = settings, entry
    elif not sign or task not in settings:
        tasks = ", ".join(settings)
        fault = f"`--data`: must be TASK=FOLDER with a task of {tasks}, but is {entry!r}"
        raise InvalidValueError(what="benchmark", faults=[fault])
    settings[task]["data"] = folder


def _run(fields: dict[str, Any], *, quick: bool, overwrite: bool, resume: bool) -> None:
    # Imported here, so that the command line starts at once and needs no extra for its help.
    check_packages(("yaml",), extra="bench")
    from embshare.cli.progress import CellBar
    from embshare.tasks.benchmark import run_benchmark
    from embshare.tasks.benchmark.config import BenchmarkConfig
    from embshare.tasks.benchmark.config import quick as shorter
    from embshare.tasks.heap import keep_freed_memory

    config = BenchmarkConfig(**fields)
    if quick:
        _check_quick(config)
        config = shorter(config)
    keep_freed_memory()
    with CellBar(Console(stderr=True)) as bar:
        found = run_benchmark(config, overwrite=overwrite, resume=resume, observer=bar)
    _show(found)


def _show(found: BenchmarkReport) -> None:
    from embshare.tasks.benchmark.table import make_table

    console = Console()
    for task in found.config.tasks:
        console.print(make_table(found, task))
    out = found.config.out
    console.print(
        f"{len(found.results)} models in {found.provenance.seconds:.0f} s. "
        f"Results, pictures and report.html are in {out}.",
        highlight=False,
    )


bench = _with_settings(_compare)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders that `embshare bench` wrote."),
    ],
    out: Annotated[
        Path | None,
        _option("Folder for the report of several benchmarks that are parts of one grid."),
    ] = None,
    overwrite: Annotated[bool, _option("Replace the results in --out.")] = False,
) -> None:
    """Show a benchmark again: print its tables, draw its pictures, write its page.

    Several folders, of other seeds or architectures and the same settings, data and code, are
    joined into one report, which needs an --out of its own.
    """
    check_packages(("yaml", "matplotlib", "jinja2"), extra="bench")
    from embshare.tasks.benchmark.folder import read_report, write_report
    from embshare.tasks.benchmark.joining import join_benchmarks

    if out is not None:
        found = join_benchmarks(folders, out, overwrite=overwrite)
    elif len(folders) > 1:
        fault = "`--out`: must be given for several folders: it is where their report is written"
        raise InvalidValueError(what="report", faults=[fault])
    else:
        found = read_report(folders[0])
        write_report(found)
    _show(found)
