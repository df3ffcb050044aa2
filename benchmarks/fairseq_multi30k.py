"""Multi30k de-en in fairseq: recurrent, convolutional and attention models, dense and shared.

    python benchmarks/fairseq_multi30k.py DATA --work FOLDER --out benchmarks/results/fairseq

DATA is Multi30k's folder with ``tok/train.lc.norm.tok.de`` and the like, or any folder with
``train.de``, ``train.en``, ``val.*`` and ``test_2016_flickr.*``. All is done by fairseq's own
commands with the plug-in: one BPE for both sides is learned on the training side, then for each
model train, generate, and score by sacreBLEU on detokenised lower-cased text as it is in DATA. One
run is killed by SIGKILL in its middle and started again; its losses are compared with those of the
run that nobody killed. Runs that have a record in the result are not repeated.

fairseq has one learning rate for all parameters. So the projection of a shared model has that of
the table, and not a separate one, which elsewhere is worth something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from sacrebleu.metrics.bleu import BLEU
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from embshare._value import Value
from embshare.adapters.fairseq import PLUGIN
from embshare.adapters.fairseq.averaging import average
from embshare.adapters.fairseq.pinning import plan_of
from embshare.plan.values import SharePlan
from embshare.tasks.measurement.provenance import read_provenance

ROOT: Final = Path(__file__).resolve().parent.parent
WIDTH: Final = 256
ARCHITECTURES: Final = {
    "lstm": (
        f"--arch lstm --encoder-embed-dim {WIDTH} --encoder-hidden-size {WIDTH} "
        f"--encoder-layers 2 --decoder-embed-dim {WIDTH} --decoder-hidden-size {WIDTH} "
        f"--decoder-out-embed-dim {WIDTH} --decoder-layers 2 --dropout 0.1 "
        "--share-all-embeddings --lr 0.004"
    ),
    "fconv": (
        f"--arch fconv --encoder-embed-dim {WIDTH} --decoder-embed-dim {WIDTH} "
        f"--encoder-layers [({WIDTH},3)]*4 --decoder-layers [({WIDTH},3)]*3 "
        f"--decoder-out-embed-dim {WIDTH} --share-input-output-embed --dropout 0.1 --lr 0.002"
    ),
    "transformer_iwslt_de_en": (
        f"--arch transformer_iwslt_de_en --encoder-embed-dim {WIDTH} --decoder-embed-dim {WIDTH} "
        "--encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512 --encoder-layers 4 "
        "--decoder-layers 4 --encoder-attention-heads 4 --decoder-attention-heads 4 "
        "--share-all-embeddings --dropout 0.1 --lr 0.001"
    ),
}
"""fconv's code has no joined table; its decoder ties its own table with its head.

Learning rates of `lstm` and attention are the better of two that were tried on the dense models for
300 updates; attention does not learn at twice its rate.
"""
SHARING: Final = {
    "dense": "",
    "shared": "--embshare veps --embshare-tie all --embshare-anchor 3",
}
PROGRESS: Final = re.compile(r"(train_inner|valid) \| (\{.*\})")


class Budget(Value):
    """What all runs of one table have in common."""

    updates: int = 1500
    tokens: int = 1024
    warmup: int = 250
    vocabulary: int = 4000
    seed: int = 1
    beam: int = 5
    threads: int = 1
    """Threads of each process; `jobs` processes run side by side."""
    jobs: int = 2


class Bench:
    """One folder of data, checkpoints and logs."""

    def __init__(self, data: Path, work: Path, out: Path, budget: Budget) -> None:
        self.data, self.work, self.out, self.budget = data, work, out, budget
        for folder in (work, out / "logs"):
            folder.mkdir(parents=True, exist_ok=True)

    def fairseq(
        self, command: str, words: Sequence[str], log: Path
    ) -> tuple[int, list[str], float]:
        """Run one of fairseq's commands; its exit code, the command, and the seconds it took."""
        code = f"from fairseq_cli.{command} import cli_main; cli_main()"
        called = [sys.executable, "-W", "ignore", "-c", code, *words]
        threads = str(self.budget.threads)
        settings = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        began = time.perf_counter()
        with log.open("w") as file:
            done = subprocess.run(called, stdout=file, stderr=subprocess.STDOUT, env=settings)
        seconds = time.perf_counter() - began
        self.clean(log)
        return done.returncode, [f"fairseq-{command.replace('_', '-')}", *words], seconds

    def must(self, command: str, words: Sequence[str], log: Path) -> tuple[list[str], float]:
        """`fairseq`, which ends the benchmark where the command fails."""
        code, called, seconds = self.fairseq(command, words, log)
        if code:
            sys.exit(f"{' '.join(called)}: exit code {code}; see {log}")
        return called, seconds

    # ------------------------------------------------------------------ data

    def prepare(self) -> None:
        """BPE and ``fairseq-preprocess``, once."""
        if (self.work / "bin" / "dict.en.txt").exists():
            return
        bpe = _learn([self.side("train", side) for side in ("de", "en")], self.budget.vocabulary)
        for split, name in (("train", "train"), ("val", "valid"), ("test_2016_flickr", "test")):
            for language in ("de", "en"):
                lines = self.side(split, language).read_text(encoding="utf-8").splitlines()
                pieces = (" ".join(found.tokens) + "\n" for found in bpe.encode_batch(lines))
                (self.work / f"{name}.{language}").write_text("".join(pieces), encoding="utf-8")
        words = "-s de -t en --joined-dictionary --workers 1"
        prefixes = {f"--{name}pref": str(self.work / name) for name in ("train", "valid", "test")}
        more = [part for pair in prefixes.items() for part in pair]
        target = ["--destdir", str(self.work / "bin")]
        self.must("preprocess", [*words.split(), *more, *target], self.log("preprocess"))

    def side(self, split: str, language: str) -> Path:
        """One side of one split, tokenised and lower-cased where DATA has that."""
        patterns = (
            f"tok/{split}.lc.norm.tok.{language}",
            f"raw/{split}.{language}",
            f"{split}.{language}",
        )
        found = next((self.data / p for p in patterns if (self.data / p).exists()), None)
        return found or sys.exit(f"{self.data}: no {' or '.join(patterns)}")

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.out / "logs" / f"{name}.log"

    # ------------------------------------------------------------------ one model

    def words(self, architecture: str, sharing: str, save: Path) -> list[str]:
        """Arguments of ``fairseq-train``; batches are made anew each epoch: resuming is exact."""
        b = self.budget
        fixed = (
            f"{self.work / 'bin'} --user-dir {PLUGIN} --task translation -s de -t en --cpu "
            f"--optimizer adam --adam-betas (0.9,0.98) --clip-norm 1.0 --weight-decay 0.0001 "
            f"--lr-scheduler inverse_sqrt --warmup-updates {b.warmup} "
            f"--criterion label_smoothed_cross_entropy --label-smoothing 0.1 "
            f"--max-tokens {b.tokens} --max-update {b.updates} --seed {b.seed} "
            f"--save-dir {save} --save-interval-updates {max(1, b.updates // 4)} "
            f"--keep-interval-updates 2 --no-epoch-checkpoints --log-format json --log-interval 20 "
            f"--num-workers 0 --grouped-shuffling --validate-interval 1000000"
        )
        return [*fixed.split(), *ARCHITECTURES[architecture].split(), *SHARING[sharing].split()]

    def run(self, architecture: str, sharing: str) -> dict[str, Any]:
        """Train, generate and score one model."""
        name = f"{architecture}-{sharing}"
        save = self.work / name
        trained, seconds = self.must(
            "train", self.words(architecture, sharing, save), self.log(name)
        )
        generated, took = self.generate(name, save)
        return {
            "architecture": architecture,
            "sharing": sharing,
            "commands": [self.portable(trained), self.portable(generated)],
            "seconds_training": round(seconds, 1),
            "seconds_generating": round(took, 1),
            "stored": _stored(self.log(name)),
            "losses": dict(_losses(self.log(name))),
            **self.score(name),
            **_plan(save / "checkpoint_last.pt"),
        }

    def generate(self, name: str, save: Path) -> tuple[list[str], float]:
        """Beam search on the test side."""
        words = (
            f"{self.work / 'bin'} --user-dir {PLUGIN} -s de -t en --cpu --gen-subset test "
            f"--path {save / 'checkpoint_last.pt'} --beam {self.budget.beam} --max-tokens 4000 "
            "--max-len-a 1.5 --max-len-b 10 --remove-bpe sentencepiece"
        )
        return self.must("generate", words.split(), self.log(f"{name}-generate"))

    def score(self, name: str) -> dict[str, Any]:
        """sacreBLEU against the references as they stand in DATA, which the log is rid of."""
        log = self.log(f"{name}-generate")
        text = re.sub(r"^[STHP]-\d+\t.*\n", "", log.read_text(encoding="utf-8"), flags=re.MULTILINE)
        log.write_text(text, encoding="utf-8")
        found = dict(re.findall(r"^D-(\d+)\t\S+\t(.*)$", text, re.MULTILINE))
        references = self.side("test_2016_flickr", "en").read_text(encoding="utf-8").splitlines()
        hypotheses = [found.get(str(number), "") for number in range(len(references))]
        metric = BLEU(tokenize="none", lowercase=True, force=True)
        bleu = metric.corpus_score(hypotheses, [references])
        return {
            "bleu": round(bleu.score, 2),
            "bleu_signature": str(metric.get_signature()),
            "sentences": len(found),
            "without_translation": sum(not line for line in hypotheses),
        }

    def kill(self, architecture: str, sharing: str) -> int:
        """A run like another one, killed after its half, and resumed; the first one's exit code."""
        name = f"{architecture}-{sharing}-killed"
        save = self.work / name
        shutil.rmtree(save, ignore_errors=True)  # of an attempt that was not compared
        words = self.words(architecture, sharing, save)
        code = "from fairseq_cli.train import cli_main; cli_main()"
        settings = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.budget.threads),
            "PYTHONPATH": str(ROOT),
        }
        with self.log(name).open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", code, *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=settings,
            )
            half = self.budget.updates // 2
            while process.poll() is None and max(_losses_of(self.log(name)), default=0) <= half:
                time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
            code_killed = process.wait()
        self.clean(self.log(name))
        self.must("train", words, self.log(f"{name}-resumed"))
        return code_killed

    def compare(self, architecture: str, sharing: str, exit_code: int) -> dict[str, Any]:
        """The losses of the run that was killed beside those of the one that was not."""
        name = f"{architecture}-{sharing}-killed"
        straight = _losses_of(self.log(f"{architecture}-{sharing}"))
        resumed = _losses_of(self.log(f"{name}-resumed"))
        return {
            "architecture": architecture,
            "sharing": sharing,
            "exit_code": exit_code,
            "updates_before": max(_losses_of(self.log(name)), default=0),
            "updates_compared": [min(resumed), max(resumed)],
            "largest_difference": max(abs(resumed[n] - straight[n]) for n in resumed),
            "losses": {str(n): [straight[n], resumed[n]] for n in sorted(resumed) if n in straight},
        }

    def clean(self, log: Path) -> None:
        """A log without the folders of this machine."""
        log.write_text(self.portable([log.read_text(encoding="utf-8")]), encoding="utf-8")

    def portable(self, words: Sequence[str]) -> str:
        """A command without the folders of this machine."""
        text = " ".join(words)
        folders = {
            self.work: "WORK",
            self.data: "DATA",
            PLUGIN: "$(embshare fairseq-plugin)",
            ROOT: "REPOSITORY",
            Path(sys.prefix): "PYTHON",
        }
        for path, shown in folders.items():
            text = text.replace(str(path), shown)
        return text


def _learn(files: Sequence[Path], vocabulary: int) -> Tokenizer:
    """A BPE of both sides, whose pieces mark the beginnings of words as SentencePiece does."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<unk>"], show_progress=False
    )
    bpe.train([str(file) for file in files], trainer)
    return bpe


def _stored(log: Path) -> int:
    """Parameters, a tied one once, as fairseq counts them."""
    found = re.search(r"num\. shared model params: ([\d,]+)", log.read_text(encoding="utf-8"))
    assert found, log
    return int(found[1].replace(",", ""))


def _plan(checkpoint: Path) -> dict[str, Any]:
    text = plan_of(average([checkpoint]))
    if text is None:
        return {"config": None}
    plan = SharePlan.from_json(text)
    return {
        "config": plan.config.model_dump(),
        "hidden_before": sum(slot.numel * len(slot.weights) for slot in plan.slots),
        "columns": [source.width for source in plan.sources],
    }


def _losses(log: Path) -> Iterator[tuple[str, float]]:
    for update, loss in _losses_of(log).items():
        yield str(update), loss


def _losses_of(log: Path) -> dict[int, float]:
    """Update -> mean training loss since the last line."""
    found = PROGRESS.findall(log.read_text(encoding="utf-8")) if log.exists() else []
    lines = [json.loads(line) for kind, line in found if kind == "train_inner"]
    return {int(line["num_updates"]): float(line["loss"]) for line in lines}


def main() -> None:
    """Run what has no record yet, two processes side by side, and write after each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--killed", default="lstm", help="architecture; or '' for none")
    for name, field in Budget.model_fields.items():
        parser.add_argument(f"--{name}", type=type(field.default), default=field.default)
    given = vars(parser.parse_args())
    budget = Budget(**{name: given[name] for name in Budget.model_fields})
    bench = Bench(given["data"].resolve(), given["work"].resolve(), given["out"].resolve(), budget)
    bench.prepare()
    result = _Result(bench.out / "multi30k.json", budget)
    wanted = [(a, s) for a in given["architectures"] for s in SHARING]
    killed = given["killed"]
    with ThreadPoolExecutor(budget.jobs) as pool:
        ended = None
        if killed and not result.value["killed"]:
            ended = pool.submit(bench.kill, killed, "shared")
        waiting = [pool.submit(bench.run, *pair) for pair in wanted if not result.has(*pair)]
        for future in waiting:
            record = future.result()
            result.add("runs", record)
            said = record["architecture"], record["sharing"], record["bleu"], record["stored"]
            print(*said, f"{record['seconds_training']} s", flush=True)
    if ended is not None:
        record = bench.compare(killed, "shared", ended.result())
        result.add("killed", record)
        print(f"killed and resumed {killed}: losses differ by {record['largest_difference']}")


class _Result:
    """A JSON file that grows by one record at a time."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.value: dict[str, Any] = {"runs": [], "killed": []}
        if path.exists():
            self.value = json.loads(path.read_text())
            if self.value["budget"] != budget.model_dump():
                sys.exit(f"{path} is of another budget: move it away, or give its budget")
        self.value["budget"] = budget.model_dump()
        self.value["provenance"] = read_provenance().model_dump()
        self.value["provenance"]["packages"] |= {"fairseq-fixed": _version("fairseq-fixed")}

    def has(self, architecture: str, sharing: str) -> bool:
        runs = self.value["runs"]
        return any((r["architecture"], r["sharing"]) == (architecture, sharing) for r in runs)

    def add(self, kind: str, record: dict[str, Any]) -> None:
        self.value[kind].append(record)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.value, indent=1) + "\n")
        part.replace(self.path)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
