"""Each campaign in a few rounds; all of its rounds with ``-m campaign``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = {
    "mutated_files": (100, 100_000),
    "kills": (12, 1500),
    "resumed_training": (1, 120),
    "programs": (1, 500),
}
"""Campaign -> rounds of the ordinary test and of the whole campaign."""


def play(name: str, rounds: int, out: Path, *, seed: int = 1) -> dict[str, Any]:
    words = [name, "--rounds", str(rounds), "--seed", str(seed), "--out", str(out)]
    done = python("-m", f"tests.campaigns.{words[0]}", *words[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert isinstance(found, dict)
    return found


def python(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: a campaign forks, which no process with threads should."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True
    )


def test_mutated_files(tmp_path: Path) -> None:
    rounds = ROUNDS["mutated_files"][0]
    found = play("mutated_files", rounds, tmp_path / "whole.json")
    assert sum(found["ended"].values()) == found["rounds"] == rounds
    assert found["wrong"] == []
    assert found["ended"]["refused: CheckpointError"] > rounds / 5
    assert found["ended"]["loaded: as saved"] > rounds / 40


def test_kills(tmp_path: Path) -> None:
    found = play("kills", ROUNDS["kills"][0], tmp_path / "kills.json")
    assert found["wrong"] == []
    assert any(kind.startswith("embshare.save/") for kind in found["kinds"])
    assert any(kind.endswith("/killed") for kind in found["kinds"])


def test_a_killed_training_is_resumed_to_equal_losses(tmp_path: Path) -> None:
    found = play("resumed_training", ROUNDS["resumed_training"][0], tmp_path / "resumed.json")
    assert found["ended"] == {"equal to the uninterrupted run": ROUNDS["resumed_training"][0]}


def test_programs(tmp_path: Path) -> None:
    found = play("programs", ROUNDS["programs"][0], tmp_path / "programs.json")
    assert found["ended"] == {"as the twin": ROUNDS["programs"][0]}
    steps = sum(count for name, count in found["counts"].items() if name.startswith("step: "))
    assert steps > 3 * found["counts"]["programs"] > 0
    assert found["counts"]["bitwise equal"] > 0


STALE = """
from hypothesis import Phase, settings
from embshare.runtime.derivation_cache import DerivationCache
from tests.campaigns import programs

kept = {}

def stale(self, index, read=DerivationCache.read):
    return kept.setdefault((id(self.bank), index), read(self, index).detach().clone())

DerivationCache.read = stale
programs.OPTIONS = settings(programs.OPTIONS, phases=[Phase.generate])  # not made shorter
for outcome in programs.play(0, [0]):
    print(outcome.ended)
"""


def test_programs_find_a_weight_that_is_not_the_current_one() -> None:
    done = python("-c", STALE)
    assert done.stdout.startswith("wrong: "), done.stdout + done.stderr


FAKE = """
import json, os, signal, sys
from pathlib import Path
from tests.campaigns.rounds import Outcome, rng_of, run

def play(seed, numbers):
    for number in numbers:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        kind = rng_of(seed, number).choice("abc")
        yield Outcome(number, kind, "wrong: five" if number == 5 else "loaded: as saved")

out = Path(sys.argv[1])
whole = run("fake", play, rounds=10, seed=0, batch=4)
run("fake", play, rounds=6, seed=0, batch=4, out=out)
parts = run("fake", play, rounds=10, seed=0, batch=4, out=out)
print(json.dumps([whole, parts]))
run("fake", play, rounds=10, seed=1, batch=4, out=out)
"""


def test_a_campaign_is_resumed_and_a_dead_process_is_wrong(tmp_path: Path) -> None:
    done = python("-c", FAKE, str(tmp_path / "fake.json"))
    whole, parts = json.loads(done.stdout)
    assert whole["ended"] == {"loaded: as saved": 8, "wrong: five": 1, "wrong: it died": 1}
    assert [entry["round"] for entry in whole["wrong"]] == [3, 5]
    assert (parts["kinds"], parts["wrong"]) == (whole["kinds"], whole["wrong"])
    assert "holds another campaign" in done.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("name", ROUNDS)
def test_whole(name: str, tmp_path: Path) -> None:
    assert play(name, ROUNDS[name][1], tmp_path / "out.json", seed=0)["wrong"] == []
