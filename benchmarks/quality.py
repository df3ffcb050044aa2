"""What sharing costs in perplexity, and which settings win it back.

    python benchmarks/quality.py DATA --settings dense "shared tie=all" --out RESULT.json
    python benchmarks/quality.py --table benchmarks/results/quality/*.json

DATA is a folder in the WikiText layout. A setting is ``dense``, ``tied`` (the dense model with one
ordinary parameter for each role, so that layers are equal but nothing is derived) or ``shared``,
and then any fields of `Setting` and `embshare.ShareConfig`: ``shared tie=none residual_rank=4``.
All architectures, settings and seeds are crossed, every run sees the same windows in the same
order for the same seed, and each finished run appends one record to the result.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

import embshare
from embshare._value import Value
from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.runtime.bank import bank_of
from embshare.tasks.language_modelling.data import folder_corpus
from embshare.tasks.language_modelling.vocabulary import SubwordVocabulary

ROOT: Final = Path(__file__).resolve().parent.parent
CODE: Final = (
    ":(glob)embshare/*.py",
    "embshare/models/matched",
    "tasks/language_modelling/data.py",
    "tasks/language_modelling/vocabulary.py",
    "benchmarks/quality.py",
)
"""What a result depends on; other work in the same tree does not make it dirty."""
Positive = Annotated[float, Field(gt=0)]


class Setting(Value):
    """One row of the study: a model and how it is trained, but for architecture, seed and steps."""

    kind: Literal["dense", "tied", "shared"]
    share: embshare.ShareConfig = embshare.ShareConfig()
    lr: Positive = 4e-3
    """The highest; a linear warm-up over a tenth of the steps, then a cosine to zero."""
    weight_decay: float = 0.01
    hidden_lr: float = 1.0
    """Of hidden matrices, or of the projection that they come from, as a multiple of ``lr``."""
    hidden_decay: float = 1.0
    projection_spread: Positive = 1.0
    """The projection's start times this, the gains divided by it: other steps, same weights."""
    table_spread: Positive = 1.0
    """The table's start times this; gains that match keep the layers' start as it was."""
    weight_spread: Positive = 1.0
    """The start of all weight matrices but the table times this, dense or shared."""
    residual_spread: Positive = 1.0
    """The right factors of low-rank residuals start times this; the left ones start at zero."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """``tied`` alone: each parameter is a product of two matrices of that rank; not for lstm."""
    model_width: int = 192
    layers: int = 4

    @model_validator(mode="after")
    def _rank_of_what_is_tied(self) -> Setting:
        if self.rank is not None and self.kind != "tied":
            raise ValueError(f"`rank` must be left out of what is {self.kind}: it is of `tied`")
        return self

    @classmethod
    def parse(cls, text: str) -> Setting:
        """``"shared tie=none lr=0.01"``."""
        kind, *pairs = text.split()
        own: dict[str, Any] = {"kind": kind}
        share: dict[str, Any] = {}
        for key, _, value in (pair.partition("=") for pair in pairs):
            fields = share if key in embshare.ShareConfig.model_fields else own
            try:
                fields[key] = json.loads(value)
            except json.JSONDecodeError:
                fields[key] = value
        return cls(**own, share=embshare.ShareConfig(**share))

    def label(self) -> str:
        """What `parse` reads: the fields that are not at their defaults."""
        own = self.model_dump(exclude_defaults=True, exclude={"kind", "share"})
        share = self.share.model_dump(exclude_defaults=True)
        return " ".join([self.kind, *(f"{k}={v}" for k, v in (share | own).items())])


class Budget(Value):
    """What all runs of one table have in common."""

    vocabulary: int = 4000
    steps: int = 400
    batch: int = 8
    length: int = 64
    scored: int = 65_536
    """Symbols of the validation side that perplexity is measured on, from its beginning."""
    dropout: float = 0.1
    clip: float = 1.0
    bf16: bool = True
    """Train under autocast; evaluation is in float32 always."""


def build(setting: Setting, architecture: Architecture, budget: Budget, seed: int) -> nn.Module:
    """A model at its start, dense or shared, the same for the same seed."""
    torch.manual_seed(seed)
    config = MatchedConfig(
        architecture=architecture,
        vocab_size=budget.vocabulary,
        width=setting.model_width,
        layers=setting.layers,
        dropout=budget.dropout,
    )
    model = MatchedLanguageModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            table = parameter is model.embedding.weight
            if parameter.dim() > 1:
                parameter.mul_(setting.table_spread if table else setting.weight_spread)
    if setting.kind == "tied":
        return tie(model, setting.rank)
    return share(model, setting) if setting.kind == "shared" else model


def share(model: nn.Module, setting: Setting) -> nn.Module:
    """Share, with projection and gains rescaled against each other."""
    plan, by = embshare.plan_sharing(model, setting.share), setting.projection_spread
    slots = tuple(slot.model_copy(update={"gain": slot.gain / by}) for slot in plan.slots)
    embshare.share_from_embedding(model, plan.model_copy(update={"slots": slots}))
    bank = bank_of(model)
    assert bank is not None
    with torch.no_grad():
        for columns in bank.columns:
            if columns.projection is not None:
                columns.projection.mul_(by)
        for relaxation in bank.relaxations:
            if isinstance(relaxation.right, nn.Parameter):
                relaxation.right.mul_(setting.residual_spread)
    return model


def tie(model: nn.Module, rank: int | None) -> nn.Module:
    """One ordinary parameter for each role, or one product of that rank."""
    modules = dict(model.named_modules())
    for slot in embshare.plan_sharing(model, embshare.ShareConfig(tie="all")).slots:
        (first, leaf), *others = (
            (modules[owner], leaf)
            for owner, _, leaf in (name.rpartition(".") for name in slot.weights)
        )
        for module, name in others:
            setattr(module, name, first._parameters[leaf])
        if rank is not None:
            for module, name in ((first, leaf), *others):
                register_parametrization(module, name, Product(rank, slot.shape))
                module.parametrizations[name] = first.parametrizations[leaf]
    return model


class Product(nn.Module):
    """A weight, read as a matrix, is the product of two; they start as the best for its start.

    A start that is random loses much to a low rank, so both are scaled up to its norm.
    """

    def __init__(self, rank: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.rank, self.shape = rank, shape

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The factors, ``[rows, rank]`` and ``[rank, columns]``."""
        left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        kept = values[: self.rank]
        root = (kept * values.norm() / kept.norm()).sqrt()
        return left[:, : self.rank] * root, root[:, None] * right[: self.rank]

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The weight."""
        return (left @ right).view(self.shape)


def train(model: nn.Module, setting: Setting, budget: Budget, symbols: Tensor, seed: int) -> None:
    """AdamW over windows drawn at random, with replacement."""
    groups = embshare.parameter_groups(
        model,
        lr=setting.lr,
        weight_decay=setting.weight_decay,
        hidden_lr=setting.hidden_lr,
        hidden_decay=setting.hidden_decay,
    )
    optimizer = torch.optim.AdamW(groups)
    warmup = max(1, budget.steps // 10)

    def rate(step: int) -> float:
        done = (step - warmup) / max(1, budget.steps - warmup)
        return (step + 1) / warmup if step < warmup else (1 + math.cos(math.pi * done)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    draw = torch.Generator().manual_seed(seed)
    offsets = torch.arange(budget.length + 1)
    model.train()
    for _ in range(budget.steps):
        starts = torch.randint(len(symbols) - budget.length, (budget.batch, 1), generator=draw)
        ids = symbols[starts + offsets].long()
        with torch.autocast("cpu", torch.bfloat16, enabled=budget.bf16):
            loss = model(ids, labels=ids)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


@torch.no_grad()
def perplexity(model: nn.Module, budget: Budget, symbols: Tensor) -> float:
    """Of the first symbols, in windows end to end: each symbol is predicted once."""
    model.eval()
    rows = min(budget.scored, len(symbols) - 1) // budget.length
    index = torch.arange(rows)[:, None] * budget.length + torch.arange(budget.length + 1)
    windows, nats = symbols[index].long(), 0.0
    with embshare.cached(model):
        for ids in windows.split(16):
            nats += float(model(ids, labels=ids)["loss"]) * len(ids)
    return math.exp(min(50.0, nats / rows))


def stored(model: nn.Module) -> tuple[int, int]:
    """Parameters in a checkpoint: all, and all but the table."""
    total = sum(parameter.numel() for parameter in model.parameters())
    table = dict(model.named_parameters())["embedding.weight"]  # as it is stored, with a factor
    return total, total - table.numel()


def run(
    setting: Setting,
    architecture: Architecture,
    budget: Budget,
    seed: int,
    sides: tuple[Tensor, Tensor],
) -> dict[str, Any]:
    """Build, train, measure: one record without its provenance."""
    begun = time.process_time()
    model = build(setting, architecture, budget, seed)
    total, hidden = stored(model)
    train(model, setting, budget, sides[0], seed)
    found = perplexity(model, budget, sides[1])
    return {
        "architecture": architecture,
        "label": setting.label(),
        "seed": seed,
        "perplexity": round(found, 3),
        "stored": total,
        "hidden": hidden,
        "cpu_s": round(time.process_time() - begun, 1),
        "setting": setting.model_dump(mode="json"),
        "budget": budget.model_dump(mode="json"),
    }


def provenance() -> dict[str, Any]:
    """Commit, whether the code that a result depends on was clean, and versions."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("diff", "--name-only", "HEAD", "--", *CODE).split()
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(changed),
        "changed": changed,
        "versions": {name: version(name) for name in ("torch", "tokenizers")},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """One more record, one line each; the file is whole at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [*read([path]), record] if path.exists() else [record]
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in records)
    part = path.with_suffix(".part")
    part.write_text(f"[\n{lines}\n]\n")
    part.replace(path)


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All records of some results."""
    return [record for path in paths for record in json.loads(path.read_text())]


def table(records: Sequence[dict[str, Any]]) -> str:
    """Settings against architectures, in Markdown: perplexity as mean ± deviation (seeds).

    The percentage is against the best dense model of full width in the table; in brackets, how
    many times fewer hidden parameters than that one has.
    """
    cells: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        cells[record["label"]][record["architecture"]].append(record)
    names = [a for a in ("lstm", "conv", "attention") if any(a in row for row in cells.values())]
    full = Setting(kind="dense")
    base: dict[str, tuple[float, int]] = {}
    for row in cells.values():
        for name, found in row.items():
            first = found[0]["setting"]
            if first["kind"] == "dense" and first["model_width"] == full.model_width:
                mean = statistics.mean(record["perplexity"] for record in found)
                base[name] = min(base.get(name, (math.inf, 0)), (mean, found[0]["hidden"]))
    lines = [f"| setting | {' | '.join(names)} |", f"| --- {'| ---: ' * len(names)}|"]
    for label, row in cells.items():
        shown = [_cell(row[name], base.get(name)) if name in row else "" for name in names]
        lines.append(f"| `{label}` | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(records: Sequence[dict[str, Any]], base: tuple[float, int] | None) -> str:
    values = [record["perplexity"] for record in records]
    spread = f" ± {statistics.stdev(values):.1f} ({len(values)})" if len(values) > 1 else ""
    text = f"{statistics.mean(values):.1f}{spread}"
    if base is None:
        return text
    change = 100 * (statistics.mean(values) / base[0] - 1)
    return f"{text}, {change:+.1f} % [{base[1] / records[0]['hidden']:.1f}]"


def main() -> None:
    """Run a grid, or print the table of earlier ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    names: tuple[Architecture, ...] = ("lstm", "conv", "attention")
    parser.add_argument("--architectures", nargs="+", default=names, choices=names)
    parser.add_argument("--settings", nargs="+", default=["dense", "shared"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=Budget().steps)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(read(arguments.table)))
        return
    if arguments.data is None:
        parser.error("DATA is needed, or --table")
    torch.set_num_threads(1)
    source = provenance()  # now: this is the code that was imported
    budget = Budget(steps=arguments.steps)
    settings = [Setting.parse(text) for text in arguments.settings]
    if "lstm" in arguments.architectures and any(setting.rank for setting in settings):
        parser.error("rank: torch's LSTM reads no parametrized weights: leave lstm out")
    corpus = folder_corpus(arguments.data)
    vocabulary = SubwordVocabulary.learn(corpus.train, budget.vocabulary)
    sides = (vocabulary.encode(corpus.train), vocabulary.encode(corpus.valid))
    for seed in arguments.seeds:
        for setting in settings:
            for architecture in arguments.architectures:
                record = {**run(setting, architecture, budget, seed, sides), **source}
                record["corpus"] = corpus.fingerprint()
                if arguments.out:
                    append(arguments.out, record)
                print(f"{record['perplexity']:9.2f} {architecture:9} {setting.label()}", flush=True)


if __name__ == "__main__":
    main()
