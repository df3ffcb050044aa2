"""``embshare bench``, ``ablate`` and ``report``: run studies, and show their reports again."""

from __future__ import annotations

import shlex
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
    from embshare.tasks.studies.reporting.sheets import Sheet
    from embshare.tasks.studies.study_file import StudyFile
    from embshare.tasks.studies.workers import Pool

__all__ = ["ablate", "bench", "report"]

SHARING: Final = "How EPS, VEPS and the preset share"
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
    """Methods: dense, narrow, tied, eps, veps or preset. Default: all."""
    seed: tuple[int, ...] = (0,)
    """Seeds, with one model of each architecture and method for each."""
    jobs: int | None = None
    """Number of models trained at once. Default: one per core, one on an accelerator."""
    shared_hidden_lr: float | None = None
    """Learning rate --hidden-lr of the models that share. Default: each model's recorded one."""
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
    search: Annotated[
        bool,
        option(
            "Search each model's learning rate, in place of those recorded for the default. Takes "
            "three times as long.",
            "--search",
        ),
    ] = False,
    *,
    grid: dict[str, Any],
    sizes: dict[str, Any],
    training: dict[str, Any],
    share: dict[str, Any],
) -> None:
    """Compare ways of sharing with dense models of as many bytes, on three architectures.

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
    fields["search"] = search
    given = [*training, *(entry.partition("=")[0].rpartition(".")[2] for entry in changes)]
    fields["recorded"] = not {"learning_rate", "hidden_lr"}.intersection(given)
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
            "Number of trials at once, each in its own process. Default: one per accelerator, or "
            "per core without any; fewer where memory is too small. 0: in this process, to debug.",
            "--jobs",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        option("Run trials on this Ray cluster: its address, auto, or local.", "--ray"),
    ] = None,
    cpus: Annotated[float, option("Cores of each trial on a Ray cluster.", "--cpus")] = 1,
    gpus: Annotated[float, option("Accelerators of each trial on a Ray cluster.", "--gpus")] = 0,
    overwrite: Annotated[bool, option("Replace the study in that folder.", "--overwrite")] = False,
    checkpoints: Annotated[
        bool,
        option("Write checkpoints, so that trials that were killed are resumed.", "--checkpoints"),
    ] = False,
    keep_checkpoints: Annotated[
        bool, option("Leave checkpoints when a trial has ended.", "--keep-checkpoints")
    ] = False,
    fail_fast: Annotated[
        bool, option("Stop at the first trial that fails.", "--fail-fast")
    ] = False,
    retries: Annotated[
        int, option("How often a trial is begun anew whose process was lost.", "--retries")
    ] = 2,
    dry_run: Annotated[
        bool,
        option(
            "Print the trials with their bytes, and time and disk from some steps; run none.",
            "--dry-run",
        ),
    ] = False,
    print_commands: Annotated[
        bool,
        option("Print a command for each trial, for an array job; run none.", "--print-commands"),
    ] = False,
    trial: Annotated[
        list[str] | None,
        option("Run only the trial of this name, in this process; repeatable.", "--trial"),
    ] = None,
) -> None:
    """Run a study: every combination of what a file varies, compared by one metric.

    The same command resumes a study that was stopped, and runs the trials that are new in a file
    with more values on its axes.
    """
    check_packages(("yaml",), extra="bench")
    from embshare.tasks.runs.config import naming_lines
    from embshare.tasks.studies.folder import has_study
    from embshare.tasks.studies.study_file import StudyFile

    study = StudyFile.load(file)
    out = Path("runs") / study.name if out is None else out
    with naming_lines(file):
        study.trials(out)
    if print_commands:
        _print_commands(study, file, out, checkpoints=checkpoints)
    elif dry_run:
        _show_estimates(study, out, jobs)
    elif trial:
        _run_only(study, out, trial, checkpoints=checkpoints)
    else:
        _run(
            study,
            out,
            jobs=jobs,
            overwrite=overwrite,
            resume=not overwrite and has_study(out),
            checkpoints=checkpoints,
            keep_checkpoints=keep_checkpoints,
            fail_fast=fail_fast,
            retries=retries,
            pool=None if ray is None else _cluster(ray, out, cpus, gpus),
        )


def _cluster(address: str, out: Path, cpus: float, gpus: float) -> Pool:
    from embshare.tasks.studies.cluster import RayPool

    return RayPool(address, out.absolute(), cpus=cpus, gpus=gpus)


def _print_commands(study: StudyFile, file: Path, out: Path, *, checkpoints: bool) -> None:
    """Print a command for each trial; those of a line with # need all above it to have ended."""
    waves: dict[str, int] = {}
    trials = study.trials(out)
    for trial in trials:
        waves[trial.name] = 1 + max((waves[need] for need in trial.needs), default=-1)
    more = " --checkpoints" * checkpoints
    for wave in sorted(set(waves.values())):
        if wave:
            typer.echo("# when all above have ended")
        for trial in trials:
            if waves[trial.name] == wave:
                words = ["embshare", "ablate", str(file), "--out", str(out), "--trial", trial.name]
                typer.echo(shlex.join(words) + more)


def _run_only(study: StudyFile, out: Path, names: list[str], *, checkpoints: bool) -> None:
    from embshare.cli.progress import TrialTable
    from embshare.tasks import studies
    from embshare.tasks.heap import keep_freed_memory

    keep_freed_memory()
    with TrialTable(Console(stderr=True)) as table:
        studies.run_trials(study, out, names, checkpoints=checkpoints, observer=table)


def _show_estimates(study: StudyFile, out: Path, jobs: int | None) -> None:
    from embshare.tasks.studies.engine import check_trials, local_pool
    from embshare.tasks.studies.estimate import (
        estimate_trials,
        estimates_table,
        estimates_total,
    )

    console = Console()
    trials = study.trials(out)
    with local_pool(jobs, len(trials)) as pool:
        with console.status("building each model once, and making some steps"):
            found = estimate_trials(check_trials(trials, pool, measure=True), pool)
        console.print(estimates_table(found))
        console.print(estimates_total(found, pool.jobs), highlight=False)


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
    study: StudyFile,
    out: Path,
    *,
    jobs: int | None,
    overwrite: bool,
    resume: bool,
    fail_fast: bool,
    checkpoints: bool = False,
    keep_checkpoints: bool = False,
    retries: int = 2,
    pool: Pool | None = None,
) -> None:
    from embshare.cli.progress import TrialTable
    from embshare.tasks import studies
    from embshare.tasks.heap import keep_freed_memory

    keep_freed_memory()
    try:
        with TrialTable(Console(stderr=True)) as table:
            found = studies.run_study(
                study,
                out,
                jobs=jobs,
                overwrite=overwrite,
                resume=resume,
                checkpoints=checkpoints,
                keep_checkpoints=keep_checkpoints,
                fail_fast=fail_fast,
                retries=retries,
                pool=pool,
                observer=table,
            )
    except KeyboardInterrupt:
        done = len(list((out / "trials").glob("*.json")))
        typer.echo(
            f"Stopped. {done} trials in {out} are done and kept; the same command resumes the "
            "study (`embshare bench` with --resume).",
            err=True,
        )
        raise
    _show(found, out)


def _show(found: StudyReport, out: Path) -> None:
    _print_tables(found)
    Console().print(
        f"{len(found.trials):,} models in {found.provenance.seconds:.0f} s. "
        f"report.html, report.md, rows.csv and figures are in {out}.",
        highlight=False,
    )


def _print_tables(found: StudyReport) -> None:
    from embshare.tasks.studies.reporting.analysis import analyse
    from embshare.tasks.studies.reporting.table import make_table

    console = Console()
    for task in found.tasks:
        analysis = analyse(found, task.name)
        console.print(make_table(analysis))
        for sentence in analysis.sentences():
            console.print(sentence, highlight=False, markup=False)


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
    from embshare.tasks.studies.folder import NoStudyError
    from embshare.tasks.studies.joining import join_studies
    from embshare.tasks.studies.store import read_report, write_report
    from embshare.tasks.studies.study_file import TRIALS

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
    from embshare.tasks.studies.reporting.plain_runs import read_runs, with_absent, write_runs

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
    from embshare.tasks.studies.reporting.analysis import analyse
    from embshare.tasks.studies.reporting.embeddings import geometry_sheet

    sheets = {task.name: geometry_sheet(analyse(found, task.name), runs) for task in found.tasks}
    return {task: sheet for task, sheet in sheets.items() if sheet is not None}
