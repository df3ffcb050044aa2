"""``embshare elastic``: DynaBERT's stages from a fine-tuned run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from embshare.cli.options import Fields, flags_of, with_options
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.packages import TRAINING, check_packages

__all__ = ["elastic"]


@with_options({"stages": Fields(ElasticConfig, flags_of(ElasticConfig), defaults=ElasticConfig())})
def elastic(
    run: Annotated[
        Path, typer.Argument(help="Folder of a BERT or RoBERTa that `embshare train glue` wrote.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the model and its results.")] = Path(
        "runs/elastic"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in that folder.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume after the last finished stage in that folder."),
    ] = False,
    *,
    stages: dict[str, Any],
) -> None:
    """Make a fine-tuned model run at twelve sizes, as DynaBERT does, and measure them all.

    Importance and rewiring, a stage of widths, a stage of depths, tuning on labels; then a table of
    sub-networks with scores, parameters, milliseconds and memory, which elastic.json holds too.
    """
    check_packages(TRAINING, extra="hf")
    from embshare.tasks.elastic.evaluation import make_table
    from embshare.tasks.elastic.making import make_elastic
    from embshare.tasks.heap import keep_freed_memory

    config = ElasticConfig(**stages)
    keep_freed_memory()
    result = make_elastic(run, out, config, overwrite=overwrite, resume=resume)
    console = Console()
    console.print(make_table(result.sub_networks))
    name, value = next(iter(result.before.items()))
    console.print(f"Fine-tuned: {name} {value:.4g}. The model and elastic.json are in {out}.")
