"""fairseq's commands in processes of their own, on sentences made here; its own warnings let be."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from embshare.adapters.fairseq import PLUGIN

ROOT = Path(__file__).resolve().parents[4]
FAIRSEQ = "needs the extra `fairseq`, which compiles: see docs/how-to/fairseq.md"

# What fairseq and the packages that it needs say about themselves; nothing of ours is let through.
WARNINGS = (
    "ignore:`torch.jit.script` is deprecated:FutureWarning",
    "ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning",
    "ignore:Using (a )?non-full backward hook:FutureWarning",
    "ignore:Support for mismatched key_padding_mask:UserWarning",
    "ignore::DeprecationWarning:fairseq",
    "ignore::DeprecationWarning:hydra",
    "ignore::UserWarning:hydra",
)

# The process ends itself by SIGKILL at the start of an update: no handler runs, nothing is saved.
KILLED = """
import os, signal
from fairseq.trainer import Trainer
step = Trainer.train_step
def dies(self, *args, **kwargs):
    if self.get_num_updates() == {update}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args, **kwargs)
Trainer.train_step = dies
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `fairseq` skip where it is absent, and see its warnings as warnings."""
    for item in items:
        if item.get_closest_marker("fairseq"):
            for line in WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(line))
            if find_spec("fairseq") is None:
                item.add_marker(pytest.mark.skip(reason=FAIRSEQ))


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    text: str

    def losses(self) -> dict[int, float]:
        """Update -> training loss of that update."""
        lines = re.findall(r"train_inner \| (\{.*\})", self.text)
        return {int(line["num_updates"]): float(line["loss"]) for line in map(json.loads, lines)}

    def hypotheses(self) -> dict[int, str]:
        """Sentence -> its best translation, with its score."""
        found = re.findall(r"^H-(\d+)\t(.*)$", self.text, re.MULTILINE)
        return {int(number): line for number, line in found}

    def error(self) -> str:
        """The last line."""
        return self.text.strip().splitlines()[-1]


@dataclass(frozen=True)
class Commands:
    """fairseq's commands, run in one folder with the plug-in."""

    folder: Path

    def run(self, command: str, *words: str, before: str = "", stdin: str = "") -> Ran:
        """``fairseq-COMMAND WORDS``, and its output."""
        code = f"{before}\nfrom fairseq_cli.{command} import cli_main\ncli_main()"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return Ran(done.returncode, done.stdout)

    def train(
        self,
        save: str,
        updates: int,
        words: Sequence[str],
        *,
        data: str = "pairs",
        before: str = "",
        every: int = 2,
    ) -> Ran:
        """Train up to an update on the CPU, with what is in the folder ``save`` as the start.

        Without ``--grouped-shuffling`` fairseq cuts batches once, by the epoch that it starts in,
        and a training resumed within a later epoch sees others, dense or shared.
        """
        fixed = (
            f"{data} --user-dir {PLUGIN} --cpu --optimizer adam --lr 0.01 --batch-size 16 "
            f"--max-update {updates} --save-dir {save} --log-format json --log-interval 1 "
            f"--save-interval-updates {every} --required-batch-size-multiple 1 --num-workers 0 "
            "--grouped-shuffling"
        )
        return self.run("train", *fixed.split(), *words, before=before)

    def generate(self, checkpoint: str, *words: str) -> Ran:
        """Translate the test set by beam search."""
        fixed = f"pairs --user-dir {PLUGIN} --path {checkpoint} --cpu --beam 3 --max-len-b 12"
        more = "--batch-size 4 --required-batch-size-multiple 1".split()
        return self.run("generate", *fixed.split(), *more, *words)


def write_sentences(folder: Path) -> None:
    """Pairs of sentences: the words of one in capitals and backwards are the other."""
    numbers = random.Random(0)
    words = [f"w{number}" for number in range(30)]
    for split, count in (("train", 240), ("valid", 24), ("test", 8)):
        lines = [
            [numbers.choice(words) for _ in range(numbers.randint(2, 6))] for _ in range(count)
        ]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in lines))
        backwards = (" ".join(reversed(line)).upper() for line in lines)
        (folder / f"{split}.en").write_text("".join(f"{line}\n" for line in backwards))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``fairseq-preprocess`` made: ``pairs``, ``joined`` and ``text``."""
    folder = tmp_path_factory.mktemp("fairseq")
    write_sentences(folder)
    commands = Commands(folder)
    pairs = "-s de -t en --trainpref train --validpref valid --testpref test --workers 1"
    text = "--only-source --trainpref train.en --validpref valid.en --testpref test.en --workers 1"
    for words in (
        f"{pairs} --destdir pairs",
        f"{pairs} --destdir joined --joined-dictionary",
        f"{text} --destdir text",
    ):
        done = commands.run("preprocess", *words.split())
        assert done.code == 0, done.text
    return folder


@pytest.fixture
def commands(prepared: Path, tmp_path: Path) -> Commands:
    """Commands in a folder of this test's own, which sees the prepared data."""
    for name in ("pairs", "joined", "text", "test.de"):
        (tmp_path / name).symlink_to(prepared / name)
    return Commands(tmp_path)
