"""What the campaigns have in common: numbered rounds, a file of results, and processes that die.

A campaign is run by ``python -m tests.campaigns.NAME --rounds N --seed S --out FILE``. Round ``n``
of a seed is the same wherever it is run. The same command goes on where an earlier one stopped:
the file is replaced after each batch of rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.runs.folder import write_text

__all__ = ["WRONG", "Campaign", "Outcome", "campaign_main", "die_within", "in_child", "run", "sort"]

WRONG: Final = "wrong"
"""How what must not happen begins, among the ways in which a round ends."""
KEPT: Final = 40
"""Findings that are kept word by word."""
SLOWEST: Final = 5


@dataclass(frozen=True)
class Outcome:
    """What one round did and how it ended."""

    number: int
    kind: str
    """What was done: ``folder/header: offsets``."""
    ended: str
    """``refused: CheckpointError``, ``loaded: as saved``, ``wrong: KeyError`` ..."""
    detail: str = ""
    """Where it is wrong: what was found."""
    ms: float | None = None
    """Processor time that the library took, milliseconds."""
    mib: float | None = None
    """Peak of resident memory above what the process had before."""
    counts: dict[str, int] = field(default_factory=dict)
    """What it consisted of, and how often; summed over rounds."""


Campaign = Callable[[int, Sequence[int]], Iterable[Outcome]]
"""From a seed and numbers of rounds to their outcomes, in this order; runs in a process that may
be ended by it."""


def rng_of(seed: int, number: int) -> random.Random:
    """The random numbers of one round."""
    return random.Random(f"{seed}:{number}")


def run(
    name: str,
    play: Campaign,
    *,
    rounds: int,
    seed: int,
    out: Path | None = None,
    batch: int = 250,
    command: str = "",
    settings: dict[str, object] | None = None,
) -> dict[str, Any]:
    """Play the rounds that a file does not hold yet, and return all results.

    Args:
        name: of the campaign.
        play: plays rounds; each batch is played in a process forked for it. A round in which that
            process dies is wrong, and the next process goes on behind it.
        rounds: how many there are to be.
        seed: of all random numbers.
        out: where results are kept; None keeps them in memory.
        batch: rounds of one process.
        command: as it was typed.
        settings: what else the results depend on.
    """
    found = _begin(name, rounds, seed, out, settings or {})
    found["command"] = command
    while found["rounds"] < rounds:
        begun, first = time.perf_counter(), found["rounds"]
        numbers = range(first, min(first + batch, rounds))
        outcomes, status = in_child(lambda numbers=numbers: play(seed, numbers))  # type: ignore[misc]
        if len(outcomes) < len(numbers):
            lost = numbers[len(outcomes)]
            outcomes.append(Outcome(lost, "a process", f"{WRONG}: it died", f"status {status}"))
        for outcome in outcomes:
            _count(found, outcome)
        found["rounds"] = first + len(outcomes)
        found["seconds"] = round(found["seconds"] + time.perf_counter() - begun, 1)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_text(out, json.dumps(sort(found), indent=1, ensure_ascii=True))
    return sort(found)


def _begin(
    name: str, rounds: int, seed: int, out: Path | None, settings: dict[str, object]
) -> dict[str, Any]:
    provenance = read_provenance().model_dump(mode="json")
    if out is not None and out.is_file():
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        same = (found["campaign"], found["seed"], found["settings"]) == (name, seed, settings)
        if not same or found["rounds"] > rounds:
            raise SystemExit(f"{out} holds another campaign, or more rounds: name another --out")
        if found["provenance"][-1]["commit"] != provenance["commit"]:
            found["provenance"].append(provenance | {"from_round": found["rounds"]})
        return found
    return {
        "campaign": name,
        "seed": seed,
        "settings": settings,
        "rounds": 0,
        "seconds": 0.0,
        "ended": {},
        "kinds": {},
        "wrong": [],
        "slowest": [],
        "largest": [],
        "provenance": [provenance],
    }


def _count(found: dict[str, Any], outcome: Outcome) -> None:
    for place in (found["ended"], found["kinds"].setdefault(outcome.kind, {})):
        place[outcome.ended] = place.get(outcome.ended, 0) + 1
    for name, count in outcome.counts.items():
        counts = found.setdefault("counts", {})
        counts[name] = counts.get(name, 0) + count
    if outcome.ended.startswith(WRONG) and len(found["wrong"]) < KEPT:
        entry = {"round": outcome.number, "kind": outcome.kind, "ended": outcome.ended}
        found["wrong"].append(entry | {"detail": outcome.detail[:400]})
    for key, value in (("slowest", outcome.ms), ("largest", outcome.mib)):
        if value is not None:
            unit = {"slowest": "ms", "largest": "mib"}[key]
            entry = {"round": outcome.number, "kind": outcome.kind, "ended": outcome.ended}
            found[key].append(entry | {unit: round(value, 1)})
            found[key].sort(key=lambda entry: -entry[unit])
            del found[key][SLOWEST:]


def sort(found: dict[str, Any]) -> dict[str, Any]:
    """Results with their counts by falling number, and kinds by name."""

    def falling(counts: dict[str, int]) -> dict[str, int]:
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    kinds = {kind: falling(counts) for kind, counts in sorted(found["kinds"].items())}
    if "counts" in found:
        found = found | {"counts": dict(sorted(found["counts"].items()))}
    return found | {"ended": falling(found["ended"]), "kinds": kinds}


def in_child(play: Callable[[], Iterable[Any]]) -> tuple[list[Any], int]:
    """What a function yields in a forked process, as far as it came, and its wait status."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _play_and_exit(play, os.fdopen(writing, "wb"))
    os.close(writing)
    got = []
    with os.fdopen(reading, "rb") as file:
        while True:
            try:
                got.append(pickle.load(file))
            except (EOFError, pickle.UnpicklingError):
                break
    return got, os.waitpid(child, 0)[1]


def _play_and_exit(play: Callable[[], Iterable[Any]], file: IO[bytes]) -> None:
    status = 1
    try:
        for item in play():
            pickle.dump(item, file)
            file.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def die_within(seconds: float, act: Callable[[], object], log: Path | None = None) -> str:
    """Fork, have the child act, and kill it by SIGKILL.

    Args:
        seconds: from the child's start to its end.
        act: what the child does.
        log: takes what the child prints; None lets it print.
    Returns:
        ``killed``; ``ended``, where the child took less time; or ``failed``, by itself.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _act_and_exit(act, writing, log)
    os.close(writing)
    os.read(reading, 1)  # it runs
    os.close(reading)
    ending = time.perf_counter() + seconds
    while (left := ending - time.perf_counter()) > 0:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "failed" if status else "ended"
        time.sleep(min(0.002, left))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "failed" if status else "ended"


def _act_and_exit(act: Callable[[], object], started: int, log: Path | None) -> None:
    status = 1
    try:
        if log is not None:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
        os.write(started, b"!")
        os.close(started)
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def campaign_main(
    name: str, play: Campaign, *, batch: int, settings: dict[str, object] | None = None
) -> None:
    """The command line of a campaign."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.campaigns.{name}")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    command = f"python -m tests.campaigns.{name} --rounds {given.rounds} --seed {given.seed}"
    if given.out is not None:
        command += f" --out {given.out}"
    found = run(
        name,
        play,
        rounds=given.rounds,
        seed=given.seed,
        out=given.out,
        batch=batch,
        command=command,
        settings=settings,
    )
    print(json.dumps({key: found[key] for key in ("rounds", "seconds", "ended")}, indent=1))
    raise SystemExit(any(ended.startswith(WRONG) for ended in found["ended"]))
