"""``embshare elastic``: DynaBERT's stages from a fine-tuned run."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from embshare.cli.options import option_name, optional_options
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.packages import TRAINING, check_packages

__all__ = ["elastic"]


def _make(
    run: Annotated[
        Path, typer.Argument(help="Folder that `embshare train glue` wrote, of a BERT or RoBERTa.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the model and its table.")] = Path(
        "runs/elastic"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is in that folder.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last stage that was finished there.")
    ] = False,
    **given: Any,
) -> None:
    """Make a fine-tuned model run at twelve sizes, as DynaBERT does, and measure them all.

    Importance and rewiring, a stage of widths, a stage of depths, tuning on labels; then a table of
    sub-networks with scores, parameters, milliseconds and memory, which elastic.json holds too.
    """
    check_packages(TRAINING, extra="hf")
    from embshare.tasks.elastic.evaluation import make_table
    from embshare.tasks.elastic.making import make_elastic
    from embshare.tasks.heap import keep_freed_memory

    config = ElasticConfig(**{name: value for name, value in given.items() if value is not None})
    keep_freed_memory()
    result = make_elastic(run, out, config, overwrite=overwrite, resume=resume)
    console = Console()
    console.print(make_table(result.sub_networks))
    name, value = next(iter(result.before.items()))
    console.print(f"Fine-tuned: {name} {value:.4g}. The model and elastic.json are in {out}.")


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting of the stages."""
    own = list(Signature.from_callable(command, eval_str=True).parameters.values())[:-1]
    names = {name: [option_name(name)] for name in ElasticConfig.model_fields}
    parameters = [
        *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own),
        *optional_options(ElasticConfig, "", names),
    ]

    def elastic(**given: Any) -> None:
        command(**given)

    elastic.__doc__ = command.__doc__
    elastic.__signature__ = Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    elastic.__annotations__ = {p.name: p.annotation for p in parameters}
    return elastic


elastic = _with_settings(_make)
