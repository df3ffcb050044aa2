"""What a step costs: a shared model against the same model with ordinary tied parameters.

    python benchmarks/speed.py --out benchmarks/results/speed.json
    python benchmarks/speed.py --table benchmarks/results/speed.json

The two models of a pair take turns within one run, A B A B, and the ratio is that of the medians.
A training step is forward, backward and AdamW. An evaluation is one sentence without gradients:
as one of many inside `embshare.cached`, and as a call of its own, which derives its weights first.
The plain model ties each role's weights by assigning one parameter.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from records import options, report
from torch import Tensor, nn

import embshare

BATCH, LARGE, LENGTH, SENTENCE = 4, 16, 128, 20
SECONDS = 5.0
"""For which a pair takes turns at least."""
CONFIGS: tuple[dict[str, Any], ...] = ({}, {"anchor": 4.0}, {"factor": 128})


def bert(width: int, layers: int = 12) -> nn.Module:
    """A BERT body with a tied head."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    return BertForMaskedLM(config)


def matched(architecture: str) -> nn.Module:
    """The matched family's language model."""
    from embshare.models.matched import MatchedConfig, MatchedLanguageModel

    return MatchedLanguageModel(
        MatchedConfig(architecture=architecture, vocab_size=8000, width=256, dropout=0.0)
    )


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "bert-12x384": lambda: bert(384),
    "bert-12x768": lambda: bert(768),
    "lstm": lambda: matched("lstm"),
    "conv": lambda: matched("conv"),
    "attention": lambda: matched("attention"),
}


def tie(model: nn.Module) -> nn.Module:
    """The same model with one ordinary parameter for each role."""
    plan = embshare.plan_sharing(model, embshare.ShareConfig(tie="all"))
    modules = dict(model.named_modules())
    for slot in plan.slots:
        owner, _, leaf = slot.weights[0].rpartition(".")
        first = modules[owner]._parameters[leaf]
        for name in slot.weights[1:]:
            owner, _, leaf = name.rpartition(".")
            setattr(modules[owner], leaf, first)
    return model


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    """Median milliseconds of either kind of model."""
    output = model(ids)
    found: Tensor = output["logits"]
    return found


def training(model: nn.Module, vocabulary: int, batch: int = BATCH) -> Callable[[], None]:
    """One training step as a function."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = torch.randint(vocabulary, (batch, LENGTH))

    def step() -> None:
        scores = logits(model, ids)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), ids.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def evaluation(model: nn.Module, vocabulary: int) -> Callable[[], None]:
    """One sentence as a function."""
    model.eval()
    ids = torch.randint(vocabulary, (1, SENTENCE))

    def run() -> None:
        with torch.no_grad():
            logits(model, ids)

    return run


def compare(shared: Callable[[], None], plain: Callable[[], None], runs: int) -> dict[str, float]:
    """Milliseconds of either, in turn, after a warm-up; what is quick runs for `SECONDS`."""
    times: tuple[list[float], list[float]] = ([], [])
    pairs = [*zip(times, (shared, plain), strict=True)]
    for _ in range(2):
        shared()
        plain()
    begun = time.perf_counter()
    while len(times[0]) < runs or time.perf_counter() - begun < SECONDS:
        for kept, run in pairs:
            start = time.perf_counter()
            run()
            kept.append((time.perf_counter() - start) * 1e3)
        pairs.reverse()  # neither is always the second
    ours, theirs = map(statistics.median, times)
    return {"shared_ms": ours, "tied_ms": theirs, "ratio": ours / theirs, "runs": len(times[0])}


def measure(
    name: str, build: Callable[[], nn.Module], config: embshare.ShareConfig, runs: int
) -> dict[str, Any]:
    """Both measurements of one pair."""
    plain = tie(build())
    shared = embshare.share_from_embedding(build(), config)
    vocabulary = 8000
    result: dict[str, Any] = {"model": name, "config": config.model_dump(mode="json")}
    result["step"] = compare(training(shared, vocabulary), training(plain, vocabulary), runs)
    result["large_step"] = compare(
        training(shared, vocabulary, LARGE), training(plain, vocabulary, LARGE), max(3, runs // 2)
    )
    result["floor"] = None if config.factor else floor(shared)
    pair = evaluation(shared, vocabulary), evaluation(plain, vocabulary)
    with embshare.cached(shared):
        result["sentence"] = compare(*pair, runs)
    result["sentence_alone"] = compare(*pair, runs)
    return result


def floor(model: nn.Module) -> float:
    """The ratio of multiply-adds of a step of `BATCH` rows: what no implementation goes below.

    Without a factor, which makes the head's share of them smaller too.
    """
    summary = embshare.summarize(model)
    return 1 + summary.derive_macs / (summary.macs_per_position * BATCH * LENGTH)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Ratios in Markdown, with the shared model's milliseconds in brackets."""
    names = ("step", "large_step", "sentence", "sentence_alone")
    lines = [
        f"| model | shared with | arithmetic alone | step of {BATCH} rows | step of {LARGE} rows "
        "| sentence, kept weights | sentence alone |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        config = embshare.ShareConfig(**result["config"]).model_dump(exclude_defaults=True)
        if config.get("init") == "random":  # what the default comes to in models that are new
            del config["init"]
        told = " ".join(f"{key}={value}" for key, value in config.items()) or "the defaults"
        cells = [f"{result[n]['ratio']:.2f} ({result[n]['shared_ms']:.0f} ms)" for n in names]
        cells.insert(0, f"{result['floor']:.2f}" if result["floor"] else "")
        lines.append(f"| {result['model']} | {told} | {' | '.join(cells)} |")
    return "\n".join(lines)


def keep_pages() -> None:
    """Let glibc keep what is freed: whether fresh pages are huge is chance, and costs much."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_max = -1, -4  # malloc.h
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_max, 0)


def main() -> None:
    """Measure every pair and write one file."""
    keep_pages()
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    torch.manual_seed(0)
    report(given, table, measured(given.only, given.runs))


def measured(only: str, runs: int) -> Iterator[dict[str, Any]]:
    """Every pair whose name holds ``only``."""
    for name, build in BUILDERS.items():
        for fields in CONFIGS if only in name else ():
            yield measure(name, build, embshare.ShareConfig(**fields), runs)


if __name__ == "__main__":
    main()
