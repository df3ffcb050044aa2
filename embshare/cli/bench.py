"""``embshare bench``, ``ablate`` and ``report``: run studies, and show their reports again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from embshare.cli.options import Fields, flags_of, option, read_value, with_options
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TrainSettings, merged

if TYPE_CHECKING:
    from embshare.tasks.studies.bench import BenchmarkConfig
    from embshare.tasks.studies.report import StudyReport
    from embshare.tasks.studies.sheets import Sheet
    from embshare.tasks.studies.study import Study

__all__ = ["ablate", "bench", "report"]

SHARING: Final = "How EPS and VEPS share"
EVERY: Final = "Settings of every task that has them"
SIZES: Final = ("width", "layers", "heads", "dropout")
PLURALS: Final = {"architecture": "architectures", "method": "methods", "seed": "seeds"}
_SIZES: Final = {name: [f"--{name}"] for name in SIZES}
_SHARE: Final = {
    **flags_of(ShareConfig, without={"method", "width"}),
    "width": ["--share-width"],  # --width is the models' own
}


class GridOptions(BaseModel):
    """Options of the benchmark itself; its config checks them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    task: tuple[str, ...] = tuple(name for name, entry in TASKS.items() if entry.compared)
    """Tasks, named as in embshare train."""
    data: tuple[str, ...] = ()
    """TASK=FOLDER, real data in place of the built-in; FOLDER alone for one task."""
    out: Path = Path("runs/bench")
    """New folder for results."""
    architecture: tuple[str, ...] = ()
    """Architectures: lstm, conv or attention. Default: all."""
    method: tuple[str, ...] = ()
    """Methods: dense, eps or veps. Default: all."""
    seed: tuple[int, ...] = (0,)
    """Seeds, with one model of each architecture and method for each."""
    jobs: int | None = None
    """Number of models trained at once. Default: one per core, one on an accelerator."""
    shared_hidden_lr: float | None = None
    """Learning rate --hidden-lr of EPS and VEPS models. Default: that of dense models."""
    set: tuple[str, ...] = ()
    """TASK.NAME=VALUE, a setting of one task, named as an option of embshare train TASK."""


@with_options(
    {
        "grid": Fields(GridOptions, flags_of(GridOptions), defaults=GridOptions()),
        "sizes": Fields(LanguageModellingConfig, _SIZES, EVERY),
        "training": Fields(TrainSettings, flags_of(TrainSettings), EVERY),
        "share": Fields(ShareConfig, _SHARE, SHARING),
    }
)
def bench(
    overwrite: Annotated[
        bool, option("Replace the results in that folder.", "--overwrite")
    ] = False,
    resume: Annotated[
        bool,
        option("Resume: keep the models in that folder that need no new training.", "--resume"),
    ] = False,
    quick: Annotated[
        bool, option("One seed and few steps: checks that everything works.", "--quick")
    ] = False,
    *,
    grid: dict[str, Any],
    sizes: dict[str, Any],
    training: dict[str, Any],
    share: dict[str, Any],
) -> None:
    """Compare dense, EPS and VEPS models of three architectures on every task at one budget.

    Trains every model, prints a table for each task, and writes results.json, plots and
    report.html. Without options it takes about five minutes on two cores, with --quick about one.
    """
    check_packages(("yaml",), extra="bench")
    from embshare.tasks.studies.bench import BenchmarkConfig, standard_tasks
    from embshare.tasks.studies.bench import quick as shorter

    out, jobs = grid.pop("out", Path("runs/bench")), grid.pop("jobs", None)
    tasks = grid.pop("task", standard_tasks())
    data, changes = grid.pop("data", ()), grid.pop("set", ())
    fields = {PLURALS.get(name, name): value for name, value in grid.items()}
    fields["tasks"] = tasks
    fields["settings"] = _settings(tasks, data, changes, sizes, training)
    if share:
        default: ShareConfig = BenchmarkConfig.model_fields["share"].default
        fields["share"] = default.model_dump() | share
    config = BenchmarkConfig(**fields)
    if quick:
        _check_quick(config)
        config = shorter(config)
    _run(config.study(), out, jobs=jobs, overwrite=overwrite, resume=resume, fail_fast=True)


def ablate(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="Study file.")],
    out: Annotated[Path | None, option("Folder of the study. Default: runs/NAME.", "--out")] = None,
    jobs: Annotated[
        int | None,
        option(
            "Number of trials run at once. Default: one per core, one on an accelerator.",
            "--jobs",
        ),
    ] = None,
    overwrite: Annotated[bool, option("Replace the study in that folder.", "--overwrite")] = False,
    checkpoints: Annotated[
        bool,
        option("Write checkpoints, so that trials that were killed are resumed.", "--checkpoints"),
    ] = False,
    fail_fast: Annotated[
        bool, option("Stop at the first trial that fails.", "--fail-fast")
    ] = False,
    dry_run: Annotated[bool, option("Print the trials and run none of them.", "--dry-run")] = False,
) -> None:
    """Run a study: every combination of what a file varies, compared by one metric.

    The same command resumes a study that was stopped, and runs the trials that are new in a file
    with more values on its axes.
    """
    check_packages(("yaml",), extra="bench")
    from embshare.tasks.studies.folder import has_study
    from embshare.tasks.studies.study import Study

    study = Study.load(file)
    out = Path("runs") / study.name if out is None else out
    if dry_run:
        for trial in study.trials(out):
            typer.echo(trial.name)
        return
    resume = not overwrite and has_study(out)
    _run(
        study,
        out,
        jobs=jobs,
        overwrite=overwrite,
        resume=resume,
        checkpoints=checkpoints,
        fail_fast=fail_fast,
    )


def _check_quick(config: BenchmarkConfig) -> None:
    """Refuse what a quick benchmark would ignore."""
    epochs = any(config.training(task).epochs is not None for task in config.tasks)
    several = len(config.seeds) > 1
    if ignored := ["--epochs"] * epochs + ["more than one --seed"] * several:
        fault = f"`--quick`: has one seed and few steps, so leave out {' and '.join(ignored)}"
        raise InvalidValueError(what="benchmark", faults=[fault])


def _settings(
    tasks: tuple[str, ...],
    data: tuple[str, ...],
    changes: tuple[str, ...],
    sizes: Mapping[str, Any],
    training: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Each task's settings as far as they were given."""
    settings: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for name in tasks:
        if name not in TASKS:
            continue  # the config says what is wrong
        known = TASKS[name].settings_class().model_fields
        settings[name] |= {key: value for key, value in sizes.items() if key in known}
        if training:
            settings[name]["training"] = dict(training)
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
        fault = f"`--set`: {entry!r} is part of `training`, which was set to {training!r} before"
        raise InvalidValueError(what="benchmark", faults=[fault])
    fields["training"] = merged(training, {name.removeprefix("training."): found})


def _data(settings: dict[str, dict[str, Any]], entry: str) -> None:
    task, sign, folder = entry.partition("=")
    if not sign and len(settings) == 1:
        (task,), folder = settings, entry
    elif not sign or task not in settings:
        tasks = ", ".join(settings)
        fault = f"`--data`: must be TASK=FOLDER with a task of {tasks}, but is {entry!r}"
        raise InvalidValueError(what="benchmark", faults=[fault])
    settings[task]["data"] = folder


def _run(
    study: Study,
    out: Path,
    *,
    jobs: int | None,
    overwrite: bool,
    resume: bool,
    fail_fast: bool,
    checkpoints: bool = False,
) -> None:
    from embshare.cli.progress import TrialBar
    from embshare.tasks import studies
    from embshare.tasks.heap import keep_freed_memory

    keep_freed_memory()
    with TrialBar(Console(stderr=True)) as bar:
        found = studies.run_study(
            study,
            out,
            jobs=jobs,
            overwrite=overwrite,
            resume=resume,
            checkpoints=checkpoints,
            fail_fast=fail_fast,
            observer=bar,
        )
    _show(found, out)


def _show(found: StudyReport, out: Path) -> None:
    _print_tables(found)
    Console().print(
        f"{len(found.trials):,} models in {found.provenance.seconds:.0f} s. "
        f"report.html, report.md, rows.csv and figures are in {out}.",
        highlight=False,
    )


def _print_tables(found: StudyReport) -> None:
    from embshare.tasks.studies.table import make_table

    console = Console()
    for task in found.tasks:
        console.print(make_table(found, task.name))


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Folder of a study, as `embshare ablate` or `bench` wrote it; or folders that "
            "hold runs of `embshare train`, at any depth.",
        ),
    ],
    out: Annotated[
        Path | None,
        option(
            "New folder for the report of runs, or for the joint one of several studies that are "
            "parts of one grid."
        ),
    ] = None,
    overwrite: Annotated[bool, option("Replace the report in --out.")] = False,
    baseline: Annotated[
        list[str] | None,
        option("AXIS=LABEL, what the other rows are compared with; may be given several times."),
    ] = None,
    geometry: Annotated[
        bool,
        option("Load the models, and add the geometry of their tables before and after training."),
    ] = False,
) -> None:
    """Report a study, or runs: tables, fronts, tests, effects, curves, as a page and as figures.

    A study's report is written into its folder: report.html, report.md, rows.csv and figures.
    Several studies, with other values on the axes and the same settings, data and code, are joined
    into one report, which needs its own --out. Runs are named by the options in which they differ;
    their report is printed, and written only with --out.
    """
    check_packages(("yaml", "matplotlib", "jinja2", "scipy"), extra="bench")
    from embshare.tasks.studies.folder import NoStudyError, read_report, write_report
    from embshare.tasks.studies.joining import join_studies
    from embshare.tasks.studies.study import TRIALS

    try:
        found = read_report(folders[0])
    except NoStudyError:
        _report_runs(folders, out, overwrite=overwrite, baseline=baseline, geometry=geometry)
        return
    if out is not None:
        if geometry or baseline:
            fault = "`--out`: joins studies; give --geometry and --baseline for the joint folder"
            raise InvalidValueError(what="report", faults=[fault])
        _show(join_studies(folders, out, overwrite=overwrite), out)
        return
    if len(folders) > 1:
        fault = "`--out`: must be given for several folders: it is where their report is written"
        raise InvalidValueError(what="report", faults=[fault])
    folder = folders[0]
    found = _with_baseline(found, baseline)
    runs = {trial.name: folder / TRIALS / trial.name for trial in found.trials}
    write_report(found, folder, geometry=_measured(found, runs) if geometry else None)
    _show(found, folder)


def _report_runs(
    folders: list[Path],
    out: Path | None,
    *,
    overwrite: bool,
    baseline: list[str] | None,
    geometry: bool,
) -> None:
    from embshare.tasks.studies.plain_runs import read_runs, with_absent, write_runs

    found, runs = read_runs(folders)
    found = with_absent(_with_baseline(found, baseline))
    if out is not None:
        measured = _measured(found, runs) if geometry else None
        write_runs(found, out, runs, overwrite=overwrite, geometry=measured)
        _show(found, out)
        return
    if geometry:
        fault = "`--geometry`: is written, not printed; name a new folder with --out"
        raise InvalidValueError(what="report", faults=[fault])
    _print_tables(found)
    typer.echo(f"{len(found.trials):,} runs. --out FOLDER writes a page and figures of them.")


def _with_baseline(found: StudyReport, given: list[str] | None) -> StudyReport:
    """The report compared with other rows than its study says."""
    if not given:
        return found
    pairs = [entry.partition("=") for entry in given]
    if wrong := [entry for entry, (_, sign, _) in zip(given, pairs, strict=True) if not sign]:
        fault = f"`--baseline`: must be AXIS=LABEL, but is {wrong[0]!r}"
        raise InvalidValueError(what="report", faults=[fault])
    compare = dict(found.study.compare) | {"baseline": {axis: label for axis, _, label in pairs}}
    study = type(found.study)(**{**dict(found.study), "compare": compare})
    return found.model_copy(update={"study": study})


def _measured(found: StudyReport, runs: Mapping[str, Path]) -> dict[str, Sheet]:
    """The geometry of the tables of each task's models."""
    from embshare.tasks.studies.analysis import analyse
    from embshare.tasks.studies.embeddings import geometry_sheet

    sheets = {task.name: geometry_sheet(analyse(found, task.name), runs) for task in found.tasks}
    return {task: sheet for task, sheet in sheets.items() if sheet is not None}
