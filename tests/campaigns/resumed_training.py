"""Killed trainings that are resumed by the same command come to the same losses, digit by digit.

Each round trains anew, is killed once to three times at random moments, and is resumed with
``--resume`` until it has come to its end. Compared with an uninterrupted run are every point of the
curve (loss, norm of the gradient, learning rate), the metrics, and the model's tensors.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import embshare
from tests.campaigns.rounds import WRONG, Outcome, campaign_main, die_within, rng_of
from tests.campaigns.trainings import Reference, curve_of, make_reference, measure, scores_of, train

__all__ = ["play"]

_kept: list[Reference] = []


def material(work: Path) -> Reference:
    """The uninterrupted run: made once, before the first process is forked."""
    if not _kept:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        torch.set_num_threads(1)
        _kept.append(make_reference(work / "reference", seed=0))
    return _kept[0]


def play(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Play rounds."""
    reference = _kept[0]
    with tempfile.TemporaryDirectory() as name:
        measure(reference, Path(name))  # as busy as the machine is now
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            yield Outcome(number, *_round(reference, Path(name), rng_of(seed, number)))


def _round(reference: Reference, work: Path, fate: Any) -> tuple[str, str, str]:
    out, log, killed, more = work / "run", work / "log", 0, list[str]()
    for _ in range(fate.choice((1, 1, 2, 3))):
        until = fate.uniform(0.05, 1.05) * reference.seconds
        how = die_within(until, lambda: train(reference, out, *more), log)  # noqa: B023
        if how == "failed":
            return f"kills: {killed}", f"{WRONG}: it failed", log.read_text()[-400:]
        killed += how == "killed"
        more = ["--resume"]
    kind = f"kills: {killed}"
    if die_within(600, lambda: train(reference, out, "--resume"), log) != "ended":
        return kind, f"{WRONG}: not resumed", log.read_text()[-400:]
    if (curve := curve_of(out)) != reference.curve:
        return kind, f"{WRONG}: another curve", json.dumps(curve)[:400]
    if (scores := scores_of(out)) != reference.metrics:
        return kind, f"{WRONG}: other metrics", json.dumps(scores)
    state = embshare.load(out / "model", reference.build()).state_dict()
    if not all(torch.equal(state[name], tensor) for name, tensor in reference.state.items()):
        return kind, f"{WRONG}: another model", ""
    return kind, "equal to the uninterrupted run", ""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        material(Path(place))
        campaign_main("resumed_training", play, batch=10)
