"""``embshare bench``: dense, EPS and VEPS models of three architectures, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console

__all__ = ["bench"]


def _option(help_text: str) -> Any:
    """An option whose default is the config's own, so that it is written once."""
    return typer.Option(help=help_text, show_default=False)


def _flag(name: str, help_text: str) -> Any:
    """An option that is on or not given."""
    return typer.Option(name, help=help_text, show_default=False)


Data: TypeAlias = Annotated[
    Path | None,
    _option(
        "Folder of a text in the WikiText layout (train.txt, valid.txt, test.txt); without it, "
        "the text that comes with Python."
    ),
]
Out: TypeAlias = Annotated[Path | None, _option("New folder for results; else runs/bench.")]
Overwrite: TypeAlias = Annotated[bool, _flag("--overwrite", "Replace the results in that folder.")]
Resume: TypeAlias = Annotated[
    bool, _flag("--resume", "Keep those models in that folder that need no new training.")
]
Quick: TypeAlias = Annotated[
    bool, _flag("--quick", "One seed and little training: to see that everything works.")
]
Architectures: TypeAlias = Annotated[
    list[str] | None, _option("lstm, conv or attention; may be given several times.")
]
Methods: TypeAlias = Annotated[
    list[str] | None, _option("dense, eps or veps; may be given several times.")
]
Seeds: TypeAlias = Annotated[
    list[int] | None, _option("One model for each; may be given several times.")
]
Tie: TypeAlias = Annotated[
    str | None, _option("Which layers share: none, all, sequence:M, cycle:M or cycle_rev:M.")
]
Factor: TypeAlias = Annotated[int | None, _option("Columns that the table is stored with.")]
Gain: TypeAlias = Annotated[str | None, _option("match, none, learned or channel.")]
Anchor: TypeAlias = Annotated[
    float | None, _option("How much of the fixed signs is added to the table that layers read.")
]
Level: TypeAlias = Annotated[
    str | None, _option("word, as published perplexities count, or subword.")
]
Vocabulary: TypeAlias = Annotated[
    int | None, _option("Symbols; of words, all that the training side has, if not given.")
]
Width: TypeAlias = Annotated[int | None, _option("Columns of the table, and width of layers.")]
Layers: TypeAlias = Annotated[int | None, _option("Layers of each model.")]
Dropout: TypeAlias = Annotated[float | None, _option("Probability of a zero.")]
Length: TypeAlias = Annotated[int | None, _option("Symbols that a model sees at once.")]
Steps: TypeAlias = Annotated[int | None, _option("Training steps of each model.")]
BatchSize: TypeAlias = Annotated[int | None, _option("Rows of one step.")]
LearningRate: TypeAlias = Annotated[
    float | None, _option("Of tables and vectors: the highest, after the warm-up.")
]
HiddenRate: TypeAlias = Annotated[
    float | None, _option("Of layers' matrices or the projection, as a multiple of that.")
]


def bench(
    data: Data = None,
    out: Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quick: Quick = False,
    architecture: Architectures = None,
    method: Methods = None,
    seed: Seeds = None,
    tie: Tie = None,
    factor: Factor = None,
    gain: Gain = None,
    anchor: Anchor = None,
    level: Level = None,
    vocabulary: Vocabulary = None,
    width: Width = None,
    layers: Layers = None,
    dropout: Dropout = None,
    length: Length = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    hidden_lr: HiddenRate = None,
) -> None:
    """Compare dense, EPS and VEPS models of three architectures at one budget.

    Trains every model, prints one table, and writes results.json and a picture for each task.
    Without options it ends within five minutes on two cores, with --quick within one.
    """
    training = _given(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, hidden_lr=hidden_lr
    )
    modelling = _given(
        data=data, level=level, width=width, layers=layers, dropout=dropout, length=length
    )
    if vocabulary is not None or level == "word":
        modelling["vocabulary_size"] = vocabulary
    fields = _given(
        out=out,
        architectures=architecture or None,
        methods=method or None,
        seeds=seed or None,
        tie=tie,
        factor=factor,
        gain=gain,
        anchor=anchor,
    )
    _run({**fields, "overwrite": overwrite, "resume": resume}, modelling, training, quick)


def _given(**options: object) -> dict[str, Any]:
    """Only what was asked for; the rest is left to the configs."""
    return {name: value for name, value in options.items() if value is not None}


def _run(
    fields: dict[str, Any], modelling: dict[str, Any], training: dict[str, Any], short: bool
) -> None:
    # Imported here, so that the command line starts at once and needs no extra for its help.
    from embshare.tasks.benchmark import run_benchmark
    from embshare.tasks.benchmark.config import BenchmarkConfig, quick
    from embshare.tasks.benchmark.observer import ProgressBar
    from embshare.tasks.benchmark.table import make_table
    from embshare.tasks.language_modelling.config import LanguageModellingConfig
    from embshare.tasks.settings import TrainSettings

    settings = LanguageModellingConfig(**modelling, training=TrainSettings(**training))
    config = BenchmarkConfig(**fields, language_modelling=settings)
    if short:
        config = quick(config)
    with ProgressBar(Console(stderr=True)) as bar:
        report = run_benchmark(config, bar)
    console = Console()
    for task in config.tasks:
        console.print(make_table(report, task))
    console.print(f"Results and pictures are in {config.out} ({report.provenance.seconds:.0f} s).")
