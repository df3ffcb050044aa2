"""``embshare demo``: a small model trained dense and shared, and what each stores and loses."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from embshare.cli.options import option
from embshare.cli.output import check_target
from embshare.config import ShareConfig

if TYPE_CHECKING:
    from torch import Tensor

    from embshare.models.matched import MatchedLanguageModel

__all__ = ["demo"]

WORDS: Final = 2_000
WIDTH: Final = 128
LAYERS: Final = 4
HEADS: Final = 4
LENGTH: Final = 32
BATCH: Final = 16
HELD_OUT: Final = 256
"""Windows of `LENGTH` words of the test set that the loss is measured on."""
RATES: Final = {"dense": 0.02, "shared": 0.02, "narrow": 0.04}
"""Peak learning rate of the table, for each model the best of 0.01, 0.02 and 0.04 (100 steps, seed
0); matrices and the projection have a `HIDDEN_LR` of it."""
HIDDEN_LR: Final = 0.3
WARMUP: Final = 0.2
SHARE: Final = ShareConfig(tie="all", gain="channel", residual_rank=4, anchor=2.0)
BAR: Final = 40
"""Columns of the longest bar of a text picture."""


@dataclass(frozen=True)
class Trained:
    """One model of the three."""

    name: str
    width: int
    bytes: int
    """Size of its files."""
    stored: int
    read: int
    loss: float
    """Nats per word of the test set, of the model as it was loaded from its files."""
    seconds: float
    curve: tuple[float, ...]
    """Training loss of each step."""

    @property
    def perplexity(self) -> float:
        """``exp`` of the loss."""
        return math.exp(self.loss)


def demo(
    out: Annotated[
        Path,
        option(
            "File for the picture: PNG, SVG or PDF with matplotlib, else text. "
            "Default: embshare-demo.png, or embshare-demo.txt without matplotlib."
        ),
    ] = Path("embshare-demo"),
    steps: Annotated[
        int, typer.Option(help="Number of optimizer updates of each model.", min=10)
    ] = 80,
    seed: Annotated[
        int, typer.Option(help="Seed of initialization, dropout and data order.", min=0)
    ] = 0,
) -> None:
    """Train a small language model dense and shared, and show what each stores and loses.

    About twenty seconds on two cores, on the text that comes with Python. A third model is a
    narrower dense one whose file is about as large as the shared one's.
    """
    picture = _picture_file(out)
    check_target(picture)
    from embshare.tasks.heap import keep_freed_memory

    keep_freed_memory()
    console = Console()
    train, test, words = _text()
    console.print(
        f"Three attention models with {LAYERS} layers learn to predict the next of {words:,} words "
        f"in the text of Python's help: {len(train):,} words, {steps} steps of {BATCH} x {LENGTH}. "
        f"The shared one has --tie {SHARE.tie} --gain {SHARE.gain} --residual-rank "
        f"{SHARE.residual_rank} --anchor {SHARE.anchor:g}.",
        highlight=False,
    )
    models: list[Trained] = []
    for name in ("dense", "shared", "narrow"):
        width = WIDTH if name != "narrow" else _narrow_width(words, models[-1].stored)
        with console.status(f"training: {name}"):
            models.append(_train(name, width, words, train, test, steps=steps, seed=seed))
    console.print(_table(models))
    console.print(_verdict(models), highlight=False)
    _draw(models, picture)
    typer.echo(f"\nThe picture is in {picture}.")


def _picture_file(out: Path) -> Path:
    if find_spec("matplotlib") is None:
        return out.with_suffix(".txt")
    return out if out.suffix else out.with_suffix(".png")


def _text() -> tuple[Tensor, Tensor, int]:
    """Training and test set as numbers of words; rare words are one, 0."""
    import torch

    from embshare.tasks.text.corpus import builtin_corpus

    corpus = builtin_corpus()
    split = [re.findall(r"\w+|[^\w\s]", text.lower()) for text in (corpus.train, corpus.test)]
    kept = [word for word, _ in Counter(split[0]).most_common(WORDS - 1)]
    numbers = {word: number for number, word in enumerate(kept, 1)}
    train, test = (torch.tensor([numbers.get(word, 0) for word in part]) for part in split)
    return train, test, len(kept) + 1


def _narrow_width(words: int, stored: int) -> int:
    """Width of the dense model whose parameters are nearest to a number."""
    widths = range(2 * HEADS, WIDTH + 1, 2 * HEADS)
    return min(widths, key=lambda width: abs(_parameters(words, width) - stored))


def _parameters(words: int, width: int) -> int:
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _model(words, width).parameters())


def _model(words: int, width: int) -> MatchedLanguageModel:
    from embshare.models.matched import MatchedConfig, MatchedLanguageModel

    return MatchedLanguageModel(
        MatchedConfig(
            architecture="attention", vocab_size=words, width=width, layers=LAYERS, heads=HEADS
        )
    )


def _train(
    name: str, width: int, words: int, train: Tensor, test: Tensor, *, steps: int, seed: int
) -> Trained:
    """Train a model, save it, load it again, and measure the loaded one."""
    import torch
    from safetensors.torch import load_model, save_model

    import embshare

    torch.manual_seed(seed)
    model = _model(words, width)
    shared = name == "shared"
    if shared:
        embshare.share_from_embedding(model, SHARE)
    curve, seconds = _fit(model, train, steps=steps, rate=RATES[name])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if shared:
            embshare.save(model, folder)
            again: Any = embshare.load(folder, lambda: _model(words, width))
        else:
            save_model(model, str(folder / "model.safetensors"))
            load_model(again := _model(words, width), str(folder / "model.safetensors"))
        size = sum(path.stat().st_size for path in folder.iterdir())
    stored = sum(parameter.numel() for parameter in model.parameters())
    read = embshare.summarize(model).read if shared else stored
    return Trained(name, width, size, stored, read, _loss(again, test), seconds, curve)


def _fit(
    model: MatchedLanguageModel, train: Tensor, *, steps: int, rate: float
) -> tuple[tuple[float, ...], float]:
    import torch

    import embshare

    optimizer = torch.optim.AdamW(
        embshare.parameter_groups(model, lr=rate, hidden_lr=HIDDEN_LR), betas=(0.9, 0.98)
    )
    warmup = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        left = min((steps - step) / max(1, steps - warmup), 1.0)
        return min((step + 1) / warmup, (1 - math.cos(math.pi * left)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    curve, begun = [], time.perf_counter()
    for _ in range(steps):
        starts = torch.randint(len(train) - LENGTH, (BATCH,))
        rows = torch.stack([train[start : start + LENGTH + 1] for start in starts.tolist()])
        loss = model(rows, labels=rows)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
    return tuple(curve), time.perf_counter() - begun


def _loss(model: MatchedLanguageModel, test: Tensor) -> float:
    """Mean nats per word of the first `HELD_OUT` windows of the test set."""
    import torch

    import embshare

    rows = test.unfold(0, LENGTH + 1, LENGTH)[:HELD_OUT]
    model.eval()
    with torch.inference_mode(), embshare.cached(model):
        found = [model(part, labels=part)["loss"].item() * len(part) for part in rows.split(64)]
    return float(sum(found) / len(rows))


def _title(model: Trained) -> str:
    kind = "shared" if model.name == "shared" else "dense"
    return f"{kind}, width {model.width}"


def _table(models: Sequence[Trained]) -> Table:
    table = Table(title="parameters stored and read, test loss in nats per word, time of training")
    table.add_column("model", no_wrap=True)
    for name in ("file", "stored", "read", "loss", "perplexity", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in models:
        table.add_row(
            _title(model),
            f"{model.bytes / 1e6:.2f} MB",
            f"{model.stored / 1e6:.2f} M",
            f"{model.read / 1e6:.2f} M",
            f"{model.loss:.3f}",
            f"{model.perplexity:.0f}",
            f"{model.seconds:.1f} s",
        )
    return table


def _verdict(models: Sequence[Trained]) -> str:
    """What the numbers say, in words that follow them."""
    dense, shared, narrow = models
    gap = shared.loss - dense.loss
    rival = narrow.loss - shared.loss
    cost = f"costs {gap:.3f} nats per word" if gap > 0 else f"gains {-gap:.3f} nats per word"
    change = (shared.perplexity / dense.perplexity - 1) * 100
    where = "worse" if rival > 0 else "better"
    return (
        f"Sharing makes the file {dense.bytes / shared.bytes:.1f} times smaller and {cost} "
        f"({change:+.1f} % perplexity).\n"
        f"A dense model of about the same bytes, {narrow.width} wide, is {abs(rival):.3f} nats "
        f"{where} than the shared one.\n"
        "Sharing saves storage, not arithmetic: the shared model computes with as many weights as "
        f"the dense one, and trained in {shared.seconds / dense.seconds:.2f} of its time.\n"
        "This is one seed, a small text and a short training, in which width matters little; "
        "`embshare bench` compares more methods on more tasks, each at its best rate."
    )


def _draw(models: Sequence[Trained], path: Path) -> None:
    if path.suffix == ".txt":
        path.write_text(_bars(models), encoding="utf-8")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = ("-", "--", ":")
    for model, style in zip(models, styles, strict=True):
        label = f"{_title(model)}: {model.bytes / 1e6:.2f} MB"
        steps = range(1, len(model.curve) + 1)
        left.plot(steps, _smooth(model.curve), style, color="black", linewidth=1.2, label=label)
        right.plot(model.bytes / 1e6, model.loss, "o", color="black")
        right.annotate(
            f"{_title(model)}\n{model.loss:.3f}",
            (model.bytes / 1e6, model.loss),
            textcoords="offset points",
            xytext=(6, 6),
        )
    left.set(xlabel="step", ylabel="training loss (nats per word)")
    largest = max(model.bytes for model in models) / 1e6
    right.set(xlabel="file (MB)", ylabel="test loss (nats per word)", xlim=(0, 1.5 * largest))
    right.margins(0.3)
    left.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _smooth(curve: Sequence[float], last: int = 8) -> list[float]:
    """Mean of each value and those before it."""
    parts = [curve[max(0, end - last) : end] for end in range(1, len(curve) + 1)]
    return [sum(part) / len(part) for part in parts]


def _bars(models: Sequence[Trained]) -> str:
    """A bar for each model, as long as its file is large."""
    largest = max(model.bytes for model in models)
    lines = ["bytes of the file, and test loss in nats per word", ""]
    for model in models:
        bar = "#" * max(1, round(BAR * model.bytes / largest))
        size = f"{model.bytes / 1e6:.2f} MB"
        lines.append(f"{_title(model):>18} {bar:<{BAR}} {size:>9}  loss {model.loss:.3f}")
    return "\n".join(lines) + "\n"
