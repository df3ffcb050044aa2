"""``embshare train TASK``: one command for each task, with its settings as options."""

from __future__ import annotations

import functools
import os
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, final

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
    from embshare.cli.progress import StepBar
    from embshare.tasks.runs.config import RunConfig
    from embshare.tasks.runs.counting import Count
    from embshare.tasks.runs.result import RunResult

__all__ = ["train"]

RUN: Final = "The run"
DATA: Final = "Data and vocabulary"
MODEL: Final = "Sizes of the matched models (lstm, conv, attention)"
OBJECTIVE: Final = "Objective"
EVALUATION: Final = "Evaluation"
TRAINING: Final = "Training: length and batches"
OPTIMIZER: Final = "Training: optimizer and learning rate"
CHECKPOINTS: Final = "Training: checkpoints and logs"
SHARING: Final = "Sharing (with --share): how a weight is derived"
SHARED: Final = "Sharing (with --share): which weights, from what"

PANELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        MODEL: ("width", "layers", "heads", "kernel_size", "dropout"),
        OBJECTIVE: (
            *("objective", "masking", "mask_share", "most_masked", "mask_copies", "masked_part"),
            *("random_part", "span_stop", "span_limit", "label_smoothing", "scst_steps"),
            "scst_rate",
        ),
        EVALUATION: (
            *("stride", "evaluate_on", "split", "metrics", "beam", "length_penalty"),
            *("bleu_tokenizer", "test_set", "best", "answer_length", "null_threshold"),
            *("eval_limit", "eval_batch_size"),
        ),
        OPTIMIZER: (
            *("learning_rate", "hidden_lr", "schedule", "floor", "warmup", "warmup_steps"),
            *(
                "layer_decay",
                "optimizer",
                "weight_decay",
                "table_decay",
                "betas",
                "epsilon",
                "max_grad_norm",
            ),
        ),
        CHECKPOINTS: ("average", "save_every", "log_every", "trackers"),
        SHARED: ("tie", "source", "include", "exclude", "init"),
    }
)
"""Heading in the help -> fields under it, in the order of the help. Other fields of a task are
`DATA`, those of its training `TRAINING`, and those of sharing `SHARING`."""
PANEL_OF: Final = {name: panel for panel, names in PANELS.items() for name in names}
INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code of a process that Ctrl-C ended."""


class RunOptions(BaseModel):
    """Options of the run itself, the same for every task; the config of the run checks them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str = "attention"
    """Model: lstm, conv or attention of the matched family, embshare:NAME, a model of transformers
    by folder or hub name, or package.module:factory, a function of the vocabulary's size."""
    share: str = "none"
    """Sharing method: none, or one of ShareConfig's (veps, eps and so on)."""
    start: Path | None = None
    """Folder of a run of this task whose trained model this one starts from, with its vocabulary
    and sizes; with --share, what is stored is fitted to its weights."""
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
    task. Options given here override it. With --resume, default: the run's own."""


def _train_one(
    task: str,
    overwrite: Annotated[
        bool, option("Replace the run in that folder.", "--overwrite", panel=RUN)
    ] = False,
    resume: Annotated[
        bool,
        option(
            "Resume the run in --out from its last checkpoint, with its own settings. More --steps "
            "or --epochs extend it, a finished one too: from there on, the learning rate follows "
            "the schedule of the longer run, so a cosine that had come down rises again.",
            "--resume",
            panel=RUN,
        ),
    ] = False,
    count: Annotated[
        bool,
        option(
            "Print what would be stored and read, and the bytes of the files, without training.",
            "--count",
            panel=RUN,
        ),
    ] = False,
    no_cache: Annotated[
        bool,
        option(
            "Learn vocabularies and encode texts anew, in place of what earlier runs on the same "
            "text left in EMBSHARE_CACHE (default: ~/.cache/embshare).",
            "--no-cache",
            panel=RUN,
        ),
    ] = False,
    *,
    own: dict[str, Any],
    settings: dict[str, Any],
    training: dict[str, Any],
    sharing: dict[str, Any],
) -> None:
    # Imported where they are needed: the command line starts at once and needs no extra for its
    # help, and a mistake in the settings is found before torch is imported, which takes seconds.
    check_packages(NEEDED, extra="hf")
    if overwrite and resume:
        fault = "`--overwrite` and `--resume` exclude each other: leave one out"
        raise InvalidValueError(what="train", faults=[fault])
    config = _checked(
        _config(task, own, settings, training, sharing, resume=resume),
        overwrite=overwrite,
        resume=resume,
        count=count,
    )
    if no_cache:
        os.environ["EMBSHARE_CACHE"] = "off"
    if count:
        from embshare.tasks.runs.counting import count_run

        _report_count(count_run(config))
        return
    from embshare.cli.progress import StepBar
    from embshare.tasks.heap import keep_freed_memory
    from embshare.tasks.processes import process_state
    from embshare.tasks.runs.engine import run

    keep_freed_memory()
    with StepBar(Console(stderr=True)) as bar, _Interrupts(config, bar) as interrupts:
        result = run(
            config,
            overwrite=overwrite,
            resume=resume,
            on_start=interrupts.start,
            on_step=interrupts.step,
            stop=interrupts.stop,
        )
    if process_state().is_main_process:
        _report(result)


def _config(
    task: str,
    own: dict[str, Any],
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    sharing: Mapping[str, Any],
    *,
    resume: bool,
) -> RunConfig:
    """The settings of the run: options over those of a file, which are the run's own if resumed."""
    from embshare.tasks.runs.config import RunConfig, read_config_file

    file, method = own.pop("config", None), own.pop("share", None)
    if file is None and resume:
        saved = own.setdefault("out", Path("runs") / task) / "config.yaml"
        file = saved if saved.is_file() else None
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
    return RunConfig(**fields)


def _checked(config: RunConfig, *, overwrite: bool, resume: bool, count: bool) -> RunConfig:
    """Check what can be checked without torch: the model's name, and that folders are there.

    Raises:
        EmbshareError: there is no such model, folder of data, or teacher; or the folder for the
            run cannot be used.
    """
    from embshare.tasks.building import check_name
    from embshare.tasks.inputs import check_inputs
    from embshare.tasks.runs.folder import RunFolder

    check_name(config.model, matched_only=TASKS[config.task].matched_only)
    check_inputs(config.settings)
    for earlier in (config.start, config.teacher):
        if earlier is not None:
            RunFolder(earlier).read_config()
    if not count and os.environ.get("RANK", "0") == "0":  # others find the folder of the first
        RunFolder(config.out).check(config, overwrite=overwrite, resume=resume)
    return config


@final
class _Interrupts:
    """Turns Ctrl-C into a checkpoint and a line that says how to resume.

    The first Ctrl-C in training stops after the current step; the second one, or one before and
    after training, at once. Several processes are stopped by their launcher.

    Args:
        config: settings of the run.
        bar: bar to advance.
    """

    def __init__(self, config: RunConfig, bar: StepBar) -> None:
        self._config, self._bar = config, bar
        self._left, self._asked = 0, False
        self._before: Any = None

    def __enter__(self) -> Self:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asked or not self._left:
            raise KeyboardInterrupt
        self._asked = True
        text = "Stopping after this step, with a checkpoint; Ctrl-C again stops at once."
        typer.echo(text, err=True)

    def start(self, steps: int) -> None:
        """Training begins."""
        self._left = steps
        self._bar.start(steps)

    def step(self) -> None:
        """A step is done."""
        self._left -= 1
        self._bar.step()

    def stop(self) -> bool:
        """Whether to write a checkpoint and stop."""
        return self._asked

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if isinstance(error, KeyboardInterrupt):
            typer.echo(_how_to_resume(self._config), err=True)
            raise typer.Exit(INTERRUPTED)


def _how_to_resume(config: RunConfig) -> str:
    from embshare.tasks.runs.folder import RunFolder

    folder = RunFolder(config.out)
    if not folder.is_run():
        return "Stopped before training: nothing was written."
    last = folder.last()
    where = "before its first checkpoint" if last is None else f"at step {last.step:,}"
    command = f"embshare train {config.task} --out {shlex.quote(str(config.out))} --resume"
    return f"Stopped {where}. Resume with: {command}"


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
    own, sharing = _by_panel(own), _by_panel(sharing)
    return {
        "own": Fields(RunOptions, run, RUN, RunOptions()),
        "settings": Fields(settings, own, DATA, settings(), PANEL_OF),
        "training": Fields(type(defaults), training, TRAINING, defaults, PANEL_OF),
        "sharing": Fields(ShareConfig, sharing, SHARING, ShareConfig(), _but_sizes()),
    }


def _by_panel(flags: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Fields in the order of `PANELS`, others before them in their own."""
    order = list(PANEL_OF)
    return dict(sorted(flags.items(), key=lambda i: order.index(i[0]) if i[0] in order else -1))


def _but_sizes() -> dict[str, str]:
    """Headings of the fields of sharing, whose width is not that of a matched model."""
    return {name: panel for name, panel in PANEL_OF.items() if panel == SHARED}


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


def _subject(config: RunConfig, data: Mapping[str, Any]) -> str:
    """What was trained on what, as far as the task names both."""
    names = (data.get(name) for name in ("data", "text", "captions"))
    languages = data.get("languages")
    parts = [config.task, *(str(part) for part in (data.get("task"), languages) if part)]
    share = config.share
    how = "dense" if share is None else f"shared by {share.method}"
    return f"{' '.join(parts)}, on {next(filter(None, names), 'its data')}: {config.model}, {how}"


def _report(result: RunResult) -> None:
    from embshare.cli.output import metric_table

    console, limit = Console(), result.config.settings.eval_limit
    console.print(_subject(result.config, result.data), highlight=False, markup=False)
    console.print(metric_table(result.metrics, result.metric))
    if limit is not None:
        console.print(
            f"Scored on the first {limit:,} rows of each split at most (--eval-limit): these are "
            "no scores of the whole split.",
            highlight=False,
        )
    console.print(
        f"{result.stored_parameters:,} parameters stored, {result.read_parameters:,} read, "
        f"{result.bytes:,} bytes; {result.steps:,} steps in {result.seconds:.0f} s.\n"
        f"The model, result.json and the curve are in {result.config.out}.",
        highlight=False,
    )


def _report_count(count: Count) -> None:
    console, sizes = Console(), count.sizes
    console.print(_subject(count.config, count.data), highlight=False, markup=False)
    if count.summary is not None:
        console.print(count.summary, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{sizes.stored:,} parameters stored ({sizes.hidden:,} outside of embedding tables), "
        f"{sizes.read:,} read, {sizes.bytes_on_disk:,} bytes. Nothing was trained or written.",
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
