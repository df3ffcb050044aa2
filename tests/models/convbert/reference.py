"""ConvBERT once more, slow and obvious: loops over numpy arrays in double precision.

Written from the formulas of the official TensorFlow code (github.com/yitu-opensource/ConvBert at
commit 32ef067), whose own numbers are in single precision and for fewer cases. Nothing here is
imported from the library; weights have the names and shapes of the library's plain model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Sizes:
    """What the formulas need to know."""

    heads: int
    head_ratio: int
    kernel: int
    groups: int
    layers: int


def gelu(x: Array) -> Array:
    """By the error function, not its tanh approximation."""
    erf = np.vectorize(math.erf)
    return np.asarray(x * 0.5 * (1.0 + erf(x / math.sqrt(2.0))))


def softmax(x: Array) -> Array:
    """Of the last axis."""
    raised = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """Of the last axis."""
    raised = x - x.max(-1, keepdims=True)
    return np.asarray(raised - np.log(np.exp(raised).sum(-1, keepdims=True)))


def dense(x: Array, w: Weights, name: str) -> Array:
    """``x W + b``; the weight is stored ``[out, in]``."""
    return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def norm(x: Array, w: Weights, name: str) -> Array:
    """Of the last axis, with an epsilon of 1e-12."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])


def grouped(x: Array, w: Weights, name: str, groups: int) -> Array:
    """Chunk ``g`` of the features times kernel ``g``, the results in order, then a bias."""
    if groups == 1:
        return dense(x, w, name)
    weight = w[f"{name}.weight"][..., 0]  # [out, in / G]
    width, out = x.shape[-1] // groups, weight.shape[0] // groups
    parts = []
    for g in range(groups):
        kernel = weight[g * out : (g + 1) * out].T
        parts.append(x[..., g * width : (g + 1) * width] @ kernel)
    return np.asarray(np.concatenate(parts, -1) + w[f"{name}.bias"])


def separable(x: Array, w: Weights, name: str) -> Array:
    """One sentence ``[T, H]``: each feature over time, then across features, then one bias."""
    depthwise = w[f"{name}.depthwise.weight"]  # [H, 1, K]
    length, kernel = len(x), depthwise.shape[-1]
    out = np.zeros_like(x)
    for t in range(length):
        for j in range(kernel):
            at = t + j - kernel // 2
            if 0 <= at < length:  # zeros beyond the edges
                out[t] += x[at] * depthwise[:, 0, j]
    return dense(out, w, f"{name}.pointwise")


def mixed_attention(x: Array, mask: Array, w: Weights, name: str, sizes: Sizes) -> Array:
    """One sentence ``[T, H]``; the mask is used by attention alone."""
    length, hidden = x.shape
    s = hidden // sizes.heads
    n = int(sizes.heads / sizes.head_ratio) or 1
    q, k, v = (dense(x, w, f"{name}.{part}") for part in ("query", "key", "value"))
    assert q.shape[-1] == n * s
    logits = dense(separable(x, w, f"{name}.conv_key") * q, w, f"{name}.conv_kernel")
    values = dense(x, w, f"{name}.conv_value")
    context = np.zeros((length, 2 * n, s))
    for head in range(n):
        own = slice(head * s, (head + 1) * s)
        for t in range(length):
            scores = np.array([q[t, own] @ k[u, own] / math.sqrt(s) for u in range(length)])
            context[t, head] = softmax(scores + (1.0 - mask) * -10000.0) @ v[:, own]
            weights = softmax(logits[t, head * sizes.kernel : (head + 1) * sizes.kernel])
            for j in range(sizes.kernel):
                at = t + j - (sizes.kernel - 1) // 2
                if 0 <= at < length:
                    context[t, n + head] += weights[j] * values[at, own]
    return context.reshape(length, 2 * n * s)


def embed(ids: Array, types: Array, w: Weights, name: str) -> Array:
    """``[B, T]`` to ``[B, T, E]``."""
    tables = [w[f"{name}.{part}_embeddings.weight"] for part in ("word", "position", "token_type")]
    summed = tables[0][ids] + tables[1][: ids.shape[1]] + tables[2][types]
    return norm(summed, w, f"{name}.norm")


def encode(x: Array, mask: Array, w: Weights, name: str, sizes: Sizes) -> Array:
    """``[B, T, E]`` to ``[B, T, H]``."""
    if f"{name}.project.weight" in w:
        x = dense(x, w, f"{name}.project")
    for i in range(sizes.layers):
        layer = f"{name}.layers.{i}"
        context = np.stack(
            [
                mixed_attention(sentence, seen, w, f"{layer}.attention", sizes)
                for sentence, seen in zip(x, mask, strict=True)
            ]
        )
        x = norm(x + dense(context, w, f"{layer}.output"), w, f"{layer}.attention_norm")
        inner = gelu(grouped(x, w, f"{layer}.up", sizes.groups))
        down = grouped(inner, w, f"{layer}.down", sizes.groups)
        x = norm(x + down, w, f"{layer}.feed_forward_norm")
    return x


def body(
    ids: Array, mask: Array, types: Array, w: Weights, sizes: Sizes, prefix: str = ""
) -> Array:
    """``[B, T]`` to ``[B, T, H]``."""
    return encode(embed(ids, types, w, f"{prefix}embeddings"), mask, w, f"{prefix}encoder", sizes)


# ---------------------------------------------------------------- pretraining


def written(ids: Array, words: Array, positions: Array) -> tuple[Array, Array]:
    """Words at positions: several at one are averaged and floored, position 0 is left alone."""
    out, mask = ids.copy(), np.zeros_like(ids)
    for b, row in enumerate(positions):
        for at in set(row.tolist()) - {0}:
            given = [int(word) for word, p in zip(words[b], row, strict=True) if p == at]
            out[b, at] = sum(given) // len(given)
            mask[b, at] = 1
    return out, mask


@dataclass(frozen=True)
class Chance:
    """Every random choice of a step."""

    positions: Array
    """``[B, M]``, 0 where nothing is predicted."""
    scored: Array
    hidden: Array
    """``[B, M]``: which of them are shown as the mask token."""
    noise: Array
    """``[B, M, V]``, uniform."""


def pretrain(
    batch: tuple[Array, Array, Array], chance: Chance, w: Weights, sizes: tuple[Sizes, Sizes]
) -> dict[str, Any]:
    """Losses and what they are of, by the official ``PretrainingModel``; 3 is the mask token."""
    ids, mask, types = batch
    rows = np.arange(len(ids))[:, None]
    seen, _ = written(ids, np.full_like(chance.positions, 3), chance.positions * chance.hidden)
    embedded = embed(seen, types, w, "convbert.embeddings")
    states = encode(embedded, mask, w, "generator", sizes[1])[rows, chance.positions]
    hidden = norm(gelu(dense(states, w, "generator_head.dense")), w, "generator_head.norm")
    table = w["convbert.embeddings.word_embeddings.weight"]
    logits = hidden @ table.T + w["generator_head.bias"]
    missed = -log_softmax(logits)
    total, count = 0.0, 0
    for b, m in np.argwhere(chance.scored):
        total += missed[b, m, ids[b, chance.positions[b, m]]]
        count += 1
    generator_loss = total / (count + 1e-6)
    gumbel = -np.log(-np.log(chance.noise + 1e-9) + 1e-9)
    drawn = (logits + gumbel).argmax(-1)
    corrupted, changed = written(ids, drawn, chance.positions)
    replaced = changed * (corrupted != ids)
    states = body(corrupted, mask, types, w, sizes[0], "convbert.")
    scores = dense(
        gelu(dense(states, w, "discriminator_head.dense")), w, "discriminator_head.score"
    )[..., 0]
    right = 1.0 / (1.0 + np.exp(-scores))
    wrong = -(replaced * np.log(right) + (1 - replaced) * np.log(1.0 - right))
    discriminator_loss = (wrong * mask).sum() / (mask.sum() + 1e-6)
    return {
        "loss": 1.0 * generator_loss + 50.0 * discriminator_loss,
        "generator_loss": generator_loss,
        "discriminator_loss": discriminator_loss,
        "generator_logits": logits,
        "logits": scores,
        "corrupted_ids": corrupted,
        "replaced": replaced,
    }


# ---------------------------------------------------------------- answers


def answer(
    batch: tuple[Array, Array, Array],
    truth: tuple[Array, Array, Array],
    w: Weights,
    sizes: Sizes,
) -> dict[str, Any]:
    """Scores after the true starts, their loss, and the ends after every start (``every``)."""
    ids, mask, types = batch
    starts, ends, impossible = truth
    states = body(ids, mask, types, w, sizes, "convbert.")
    allowed = mask * types
    allowed[:, 0] = 1

    def pair(first: Array, second: Array, name: str) -> Array:
        both = np.concatenate([first, second], -1)
        return np.asarray(dense(gelu(dense(both, w, f"{name}.dense")), w, f"{name}.score")[..., 0])

    start = dense(states, w, "start")[..., 0] - 1000.0 * (1 - allowed)
    every = np.stack(
        [
            pair(np.repeat(states[:, u : u + 1], states.shape[1], 1), states, "end")
            for u in range(states.shape[1])
        ],
        1,
    )
    every = every - 1000.0 * (1 - allowed)[:, None]
    end = np.stack([every[b, u] for b, u in enumerate(starts)])
    weighed = np.stack([softmax(start[b]) @ states[b] for b in range(len(ids))])
    none = pair(states[:, 0], weighed, "impossible")
    losses = []
    for b in range(len(ids)):
        span = -log_softmax(start[b])[starts[b]] - log_softmax(end[b])[ends[b]]
        chance = 1.0 / (1.0 + math.exp(-none[b]))
        losses.append(span / 2 - 0.5 * math.log(chance if impossible[b] else 1.0 - chance))
    return {
        "loss": np.mean(losses),
        "start_logits": start,
        "end_logits": end,
        "impossible_logits": none,
        "every": every,
    }


def slope(loss: Callable[[Weights], float], w: Weights, name: str, way: Array) -> float:
    """How fast the loss grows where one weight goes this way: central differences."""
    step = 1e-5
    above, below = (loss({**w, name: w[name] + sign * step * way}) for sign in (1.0, -1.0))
    return (above - below) / (2 * step)
