"""Fifteen encoders of about as many stored parameters, pretrained equally long on WikiText-2.

    python benchmarks/pretraining.py DATA --work FOLDER [--only NAME ...] [--steps N]
    python benchmarks/pretraining.py DATA --work FOLDER --time 12 --out RESULT.json

DATA is a folder in the WikiText layout. Six are published systems made small, nine are matched
models, dense, EPS and VEPS. Each has about 0.9 million stored parameters in what pretraining leaves
behind: table and encoder, without the head for hidden words, which ShareBERT does not tie to its
table. The matched models are dense at width 128, and shared at 216, where they store as much.
``--time`` trains that many steps of each and writes sizes and times alone; otherwise each model is
a run under FOLDER, with its ``result.json``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AlbertConfig, BertConfig, PretrainedConfig

import embshare
from embshare._value import Value
from embshare.models.convbert import ConvBertConfig
from embshare.models.elc_bert import ElcBertConfig
from embshare.models.matched import ARCHITECTURES
from embshare.models.sharebert import ShareBertConfig
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.engine import run
from embshare.tasks.training import train

VOCABULARY: Final = 4_000
LENGTH: Final = 64
STEPS: Final = 600
SIZES: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
}
CONVBERT: Final = SIZES | {
    "embedding_size": 128,
    "intermediate_size": 512,
    "generator_hidden_ratio": 0.5,
    "max_predictions": 10,
}
SHARED: Final = 216
"""Width at which a shared matched model stores as much as a dense one of width 128."""


def published() -> Mapping[str, PretrainedConfig]:
    """Each system made small, by the name of its run."""
    return {
        "bert": BertConfig(**SIZES, intermediate_size=512),
        "albert": AlbertConfig(
            **SIZES | {"hidden_size": 192},
            embedding_size=96,
            intermediate_size=768,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
        ),
        "sharebert": ShareBertConfig(
            **SIZES | {"hidden_size": 256}, intermediate_size=512, factor_size=192
        ),
        "elc_bert": ElcBertConfig("base", **SIZES, intermediate_size=344),
        "ltg_bert": ElcBertConfig("ltg", **SIZES, intermediate_size=344),
        "convbert": ConvBertConfig(**CONVBERT),
    }


def run_configs(data: Path, work: Path, steps: int) -> dict[str, RunConfig]:
    """Every run by its name; architectures are written into the folder."""
    found: dict[str, RunConfig] = {}
    for name, config in published().items():
        config.save_pretrained(work / "architectures" / name)
        own: dict[str, Any] = {"objective": "replaced"} if name == "convbert" else {}
        found[name] = _run_config(
            name, str(work / "architectures" / name), None, data, work, steps, rate=3e-3, own=own
        )
    for architecture in ARCHITECTURES:
        for method in ("dense", "eps", "veps"):
            share = None
            if method != "dense":
                share = embshare.ShareConfig(method=method, tie="all", anchor=2.0)  # type: ignore[arg-type]
            name, own = f"{architecture}_{method}", {"width": 128 if share is None else SHARED}
            found[name] = _run_config(
                name, architecture, share, data, work, steps, rate=2e-2, own=own
            )
    return found


def _run_config(
    name: str,
    model: str,
    share: embshare.ShareConfig | None,
    data: Path,
    work: Path,
    steps: int,
    *,
    rate: float,
    own: dict[str, Any],
) -> RunConfig:
    training = {"steps": steps, "batch_size": 32, "learning_rate": rate, "hidden_lr": 0.3}
    settings: dict[str, Any] = {
        "data": data,
        "cache": work / "symbols",
        "vocabulary_size": VOCABULARY,
        "length": LENGTH,
        "masking": "words",
        "training": training,
    }
    fields: dict[str, Any] = {"settings": settings | own, "model": model, "share": share}
    return RunConfig(task="pretraining", out=work / name, **fields)


class Timed(Value):
    """One model, timed."""

    model: str
    stored: int
    """Parameters of the whole pretraining model."""
    kept: int
    """Without the head and, of ConvBERT, the generator."""
    cpu_ms: float
    """Median processor time of a step and its data: what it takes where nothing else runs."""
    median_ms: float
    loss: float
    """Mean over the steps, in nats."""


class Times(Value):
    """All models, timed on one machine."""

    provenance: Provenance
    steps: int
    models: tuple[Timed, ...]


def kept_parameters(model: nn.Module) -> int:
    """Stored parameters of table, encoder and, in a shared model, projection."""
    heads = ("generator", "discriminator_head", "transform", "decoder", "cls", "predictions")
    names = dict(model.named_parameters())  # a tied one under its first name, the table's
    return sum(p.numel() for n, p in names.items() if not n.startswith(heads))


def time_model(name: str, config: RunConfig, steps: int) -> Timed:
    """Train some steps."""
    task = config.to_task().prepare()
    model = task.processor.build(config.model, 0)
    if config.share is not None:
        embshare.share_from_embedding(model, config.share)
    settings = task.training.model_copy(update={"steps": steps})
    config.out.mkdir(parents=True, exist_ok=True)
    clock: list[float] = []
    trained = train(
        model,
        task.feed(),
        settings,
        seed=0,
        folder=config.out,
        on_step=lambda: clock.append(time.process_time()),
    )
    return Timed(
        model=name,
        stored=sum(parameter.numel() for parameter in model.parameters()),
        kept=kept_parameters(model),
        cpu_ms=1e3 * statistics.median(b - a for a, b in itertools.pairwise(clock)),
        median_ms=statistics.median(trained.step_ms),
        loss=trained.loss,
    )


def main() -> None:
    """Read the arguments, time or run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--time", type=int, help="steps of each model")
    parser.add_argument("--out", type=Path, help="for times")
    given = parser.parse_args()
    torch.set_num_threads(1)
    configs = run_configs(given.data.resolve(), given.work.resolve(), given.steps)
    wanted = {name: c for name, c in configs.items() if not given.only or name in given.only}
    provenance, timed = read_provenance(), []
    for name, config in wanted.items():
        if given.time is None:
            result = run(config)
            print(f"{name:18} {result.metrics} {result.seconds:.0f} s", flush=True)
        else:
            timed.append(time_model(name, config, given.time))
            print(timed[-1].model_dump_json(), flush=True)
    if given.out is not None:
        times = Times(provenance=provenance, steps=given.time, models=tuple(timed))
        given.out.write_text(times.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
