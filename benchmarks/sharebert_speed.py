"""What a training step of ShareBERT's encoder costs: by the bank, by slices, and with plain layers.

    python benchmarks/sharebert_speed.py --out benchmarks/results/sharebert_speed.json
    python benchmarks/sharebert_speed.py --table benchmarks/results/sharebert_speed.json

`Sliced` goes about it as the official code does: it projects the whole table to ``S`` ``[V, H]``,
and every layer cuts its matrices out of ``S`` anew, so that each cut's backward fills a gradient of
``S``'s size; scores are multiplied out. Its parameters are those of the model that it is compared
with, and a test holds their outputs and gradients together. The plain model has its own matrices
in every layer (`embshare.materialize`). The three take turns within one run, A B C A B C, and
ratios are those of medians. A step is forward and backward of encoder and pooler.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from records import options, report
from torch import Tensor, nn

import embshare
from embshare.models.sharebert import ShareBertConfig, ShareBertModel
from embshare.runtime.bank import require_bank

WIDTHS = (512, 2048)
WARM_UP = 2


class Sliced(nn.Module):
    """The encoder by slices, on the parameters of a `ShareBertModel`.

    Args:
        model: gives its parameters, which are not copied, and its settings.
    """

    def __init__(self, model: ShareBertModel) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.pooler = model.embeddings, model.encoder, model.pooler
        (columns,) = require_bank(model).columns
        self.projection, self.column_bias = columns.projection, columns.bias
        self.hidden, self.inner = model.config.hidden_size, model.config.intermediate_size
        self.heads = model.config.num_attention_heads

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T]`` to the sequence ``[B, T, H]`` and its pooled first position ``[B, H]``."""
        table = self.embeddings.word_embeddings.weight
        virtual = F.linear(table, self.projection, self.column_bias)
        square = -(-self.hidden * self.hidden // len(table))
        long = -(-self.hidden * self.inner // len(table))
        x = self.embeddings(input_ids, None, None)
        for layer in self.encoder.layers:
            x = self.layer(layer, virtual, x, square, long)
        x = self.encoder.norm(x)
        edge = 4 * square + 2 * long
        pooler = cut(virtual, edge, square, (self.hidden, self.hidden))
        return x, x[:, 0] @ pooler + self.pooler.dense.bias

    def layer(self, layer: nn.Module, virtual: Tensor, x: Tensor, square: int, long: int) -> Tensor:
        """One layer, which cuts six matrices for itself."""
        hidden, inner = self.hidden, self.inner
        normed = layer.attention_norm(x)
        query, key, value = (
            normed @ cut(virtual, number * square, square, (hidden, hidden)) + part.bias
            for number, part in enumerate((layer.query, layer.key, layer.value))
        )
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** (2 / 3)
        seen = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        edge = 3 * square + 2 * long
        x = x + seen @ cut(virtual, edge, square, (hidden, hidden)) + layer.output.bias
        up = cut(virtual, 3 * square, long, (hidden, inner))
        wide = F.gelu(layer.feed_forward_norm(x) @ up + layer.up.bias)
        down = cut(virtual, 3 * square + long, long, (inner, hidden))
        return x + wide @ down + layer.down.bias


def cut(virtual: Tensor, edge: int, columns: int, shape: tuple[int, int]) -> Tensor:
    """A matrix ``[in, out]`` from ``columns`` columns, ``edge`` of them left of the right edge."""
    stop = virtual.shape[1] - edge
    return virtual[:, stop - columns : stop].flatten()[: shape[0] * shape[1]].reshape(shape)


def step(run: Callable[[Tensor], tuple[Tensor, Tensor]], model: nn.Module, ids: Tensor) -> None:
    """Forward and backward of a model."""
    sequence, pooled = run(ids)
    (sequence.pow(2).mean() + pooled.pow(2).mean()).backward()
    model.zero_grad()


def settings(hidden: int, layers: int) -> ShareBertConfig:
    """The published small model in another width, with heads as wide and without dropout."""
    return ShareBertConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=max(1, hidden // 128),
        num_hidden_layers=layers,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def measure(config: ShareBertConfig, batch: int, length: int, runs: int) -> dict[str, Any]:
    """Milliseconds of the three, in turn, after a warm-up."""
    model = ShareBertModel(config).train()
    sliced, plain = Sliced(model), embshare.materialize(model)
    ids = torch.randint(config.vocab_size, (batch, length))
    steps: Mapping[str, Callable[[], None]] = {
        "shared": lambda: step(lambda x: model(x, return_dict=False), model, ids),
        "sliced": lambda: step(sliced, sliced, ids),
        "plain": lambda: step(lambda x: plain(x, return_dict=False), plain, ids),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(runs + WARM_UP):
        for name, run in steps.items():
            start = time.perf_counter()
            run()
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - start) * 1e3)
    medians = {f"{name}_ms": statistics.median(found) for name, found in times.items()}
    shape = {"hidden": config.hidden_size, "layers": config.num_hidden_layers}
    return shape | {"batch": batch, "length": length, "runs": runs, "times_ms": times} | medians


def table(results: list[dict[str, Any]]) -> str:
    """Medians in Markdown, and how many times longer than the shared model's."""
    lines = [
        "| width | layers | tokens | bank | slices | plain layers | slices / bank | plain / bank |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in results:
        times = [found[f"{name}_ms"] for name in ("shared", "sliced", "plain")]
        cells = [found["hidden"], found["layers"], f"{found['batch']} × {found['length']}"]
        cells += [f"{milliseconds:,.0f} ms" for milliseconds in times]
        cells += [f"{milliseconds / times[0]:.2f}" for milliseconds in times[1:]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every width and write one file."""
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--width", type=int, action="append")
    given = parser.parse_args()
    torch.manual_seed(0)
    configs = (settings(width, given.layers) for width in given.width or WIDTHS)
    report(given, table, (measure(each, given.batch, given.length, given.runs) for each in configs))


if __name__ == "__main__":
    main()
