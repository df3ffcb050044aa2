"""The published systems, and sharing together with each, at one budget: pretrained, then tuned.

    python benchmarks/systems.py WIKITEXT --glue GLUE --blimp BLIMP --work FOLDER --out RESULT.json
    python benchmarks/systems.py WIKITEXT --work FOLDER --time 12 --out TIMES.json
    python benchmarks/systems.py --table RESULT.json

WIKITEXT, GLUE and BLIMP are folders in the published layouts. Each model is pretrained on WikiText,
fine-tuned on the tasks of GLUE, and scored on BLiMP, for each seed; every one of these is a run
with a folder of its own under FOLDER. A finished run is not repeated, and one that was killed goes
on from its last checkpoint, so the same command takes a study up again. All models of one seed come
before those of the next. RESULT.json is written again after each run.

``--only`` names models, or groups of them: systems, together, matched, elastic. ``--time`` trains
that many steps of each model and writes sizes and times alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import torch
import transformers
from pydantic import Field, JsonValue
from small_systems import (
    GROUPS,
    SYSTEMS,
    Sizes,
    System,
    build_empty,
    fitted_width,
    kept_parameters,
)
from systems_tables import elastic_table, settings_line, study_table, together_table

import embshare
from embshare._value import Value
from embshare.tasks.blimp import blimp_scores
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.task import Pretraining
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.engine import run
from embshare.tasks.running.folder import OtherRunError, RunFolder, differences, write_text
from embshare.tasks.running.loading import FinishedRun
from embshare.tasks.running.result import RunResult
from embshare.tasks.training import train

__all__ = ["Record", "Scale", "Study"]


class Scale(Sizes):
    """Everything that may be chosen, each with its default here and an option of its name."""

    steps: int = 2_000
    """Of pretraining."""
    batch: int = 8
    """Rows of one of its steps: few, since it takes many steps before context is used at all."""
    masking: str = "tokens"
    """What is hidden, see `embshare.tasks.pretraining.config.Masking`."""
    mask_share: float = 0.15
    rate: float = 3e-3
    """Highest learning rate of models of transformers, published systems among them."""
    matched_rate: float = 2e-2
    """Of the matched models, whose tables are larger."""
    hidden_lr: float = 0.3
    """Of matrices of layers, or the projection that they come from, as a part of that."""
    teacher_share: float = 0.5
    """Of the loss, in models that learn from a teacher."""
    tasks: tuple[str, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Of GLUE."""
    tuning_steps: int = 200
    """Of fine-tuning, for each task."""
    tuning_batch: int = 32
    tuning_rate: float = 3e-3
    matched_tuning_rate: float = 1e-2
    tuning_rows: int = 20_000
    """Of a task's training side, at most."""
    blimp_pairs: int = 20
    """Of each of the 67 paradigms; 0 leaves BLiMP out."""
    elastic_tasks: tuple[str, ...] = ("sst2", "mrpc")
    """For which the models of the group elastic go through DynaBERT's stages."""
    elastic_seeds: tuple[int, ...] = (0,)
    """Other seeds are left out for them, whatever ``--seeds`` says."""
    elastic_rows: int = 1_600
    """Of the training side, in each stage at most."""
    elastic_epochs: float = 1.0
    """Of each stage."""
    elastic_rate: float = 1e-3
    elastic_every: int = 25
    """Steps between two evaluations of all sub-networks."""


class Places(Value):
    """Where data are, and where runs go."""

    text: Path
    glue: Path | None = None
    blimp: Path | None = None
    work: Path

    @property
    def vocabulary(self) -> Path:
        """The tokenizer of all models, which is learned once."""
        return self.work / "vocabulary"


class Record(Value):
    """What one run gave."""

    model: str
    seed: int
    kind: str
    """``pretraining``, a task of GLUE, ``blimp``, or ``elastic-`` and a task."""
    metric: str
    """Which of `metrics` models are compared by."""
    metrics: dict[str, float]
    width: int
    kept: int
    """Stored parameters of table, encoder and projection: what all models have as many of."""
    stored: int
    """Of this run's model with its head."""
    hidden: int
    """Of these, what is no table."""
    read: int
    """That layers compute with; a shared one at each reader."""
    steps: int
    seconds: float
    ms_per_step: float
    provenance: Provenance
    more: dict[str, JsonValue] = Field(default_factory=dict)
    """Of sub-networks, one row each."""


class Study(Value):
    """All records so far."""

    provenance: Provenance
    scale: Scale
    jobs: int
    """Runs at a time, each on one thread."""
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Piece:
    """One run of the study: a model, a seed, and what is done with it."""

    model: str
    seed: int
    kind: str

    @property
    def system(self) -> System:
        """The model by its name."""
        return SYSTEMS[self.model]

    @property
    def after(self) -> tuple[Piece, ...]:
        """What has to be finished before."""
        if self.kind != "pretraining":
            before = self.kind.removeprefix("elastic-")
            return (Piece(self.model, self.seed, "pretraining" if before == self.kind else before),)
        teacher = self.system.teacher
        return () if teacher is None else (Piece(teacher, self.seed, "pretraining"),)

    def folder(self, places: Places) -> Path:
        """Where its run goes."""
        return places.work / f"seed-{self.seed}" / self.model / self.kind


def pieces(
    names: Sequence[str], seeds: Sequence[int], scale: Scale, places: Places
) -> Iterator[Piece]:
    """All runs, those of one seed together; teachers that nobody named are there too."""
    teachers = {SYSTEMS[name].teacher for name in names} - {None, *names}
    for seed in seeds:
        yield from (Piece(name, seed, "pretraining") for name in SYSTEMS if name in teachers)
        for name in names:
            if SYSTEMS[name].group == "elastic":
                yield from _elastic_pieces(name, seed, scale, places)
                continue
            yield Piece(name, seed, "pretraining")
            if places.glue is not None:
                yield from (Piece(name, seed, task) for task in scale.tasks)
            if places.blimp is not None and scale.blimp_pairs:
                yield Piece(name, seed, "blimp")


def _elastic_pieces(name: str, seed: int, scale: Scale, places: Places) -> Iterator[Piece]:
    if places.glue is not None and seed in scale.elastic_seeds:
        yield Piece(name, seed, "pretraining")
        for task in scale.elastic_tasks:
            yield from (Piece(name, seed, kind) for kind in (task, f"elastic-{task}"))


def run_config(piece: Piece, scale: Scale, places: Places) -> RunConfig:
    """The settings of a piece that is a run of a task."""
    system, matched = piece.system, piece.system.config is None
    width = fitted_width(system, Sizes(**{n: getattr(scale, n) for n in Sizes.model_fields}))
    fields: dict[str, Any] = {
        "model": system.model(width, scale, places.work / "architectures" / system.name),
        "seed": piece.seed,
        "out": piece.folder(places),
    }
    if piece.kind != "pretraining":
        rate = scale.matched_tuning_rate if matched else scale.tuning_rate
        fields["settings"] = _tuning(piece, rate, scale, places)
        return RunConfig(task="glue", **fields)
    if system.teacher is not None:
        teacher = Piece(system.teacher, piece.seed, "pretraining")
        fields |= {"teacher": teacher.folder(places), "teacher_share": scale.teacher_share}
    rate = scale.matched_rate if matched else scale.rate
    sizes = {"width": width, "layers": scale.layers, "heads": scale.heads}
    fields["settings"] = _pretraining(scale, places) | {
        **(sizes if matched else {}),
        "objective": "replaced" if system.replaced else "masked",
        "training": {
            "steps": scale.steps,
            "batch_size": scale.batch,
            "learning_rate": rate,
            "hidden_lr": scale.hidden_lr,
        },
    }
    return RunConfig(task="pretraining", share=system.share(scale), **fields)


def _pretraining(scale: Scale, places: Places) -> dict[str, Any]:
    return {
        "data": places.text,
        "cache": places.work / "symbols",
        "tokenizer": str(places.vocabulary),
        "length": scale.length,
        "masking": scale.masking,
        "mask_share": scale.mask_share,
    }


def _tuning(piece: Piece, rate: float, scale: Scale, places: Places) -> dict[str, Any]:
    return {
        "name": piece.kind,
        "data": places.glue,
        "init_from": Piece(piece.model, piece.seed, "pretraining").folder(places),
        "length": scale.length,
        "most_rows": scale.tuning_rows,
        "test_side": False,
        "token_types": None if piece.system.kinds else False,
        "training": {
            "steps": scale.tuning_steps,
            "batch_size": scale.tuning_batch,
            "learning_rate": rate,
            "hidden_lr": scale.hidden_lr,
        },
    }


def learn_vocabulary(scale: Scale, places: Places) -> None:
    """Write the tokenizer that all models have, and the text in its symbols."""
    if not (places.vocabulary / "tokenizer.json").is_file():
        settings = _pretraining(scale, places) | {
            "tokenizer": None,
            "vocabulary_size": scale.vocabulary,
        }
        task = Pretraining(PretrainingConfig(**settings)).prepare()
        places.vocabulary.mkdir(parents=True, exist_ok=True)
        task.processor.save(places.vocabulary)
    Pretraining(PretrainingConfig(**_pretraining(scale, places))).prepare()


def do(piece: Piece, scale: Scale, places: Places) -> Record:
    """Do a piece, or read what it gave when it was done."""
    if piece.kind == "blimp":
        return _blimp(piece, scale, places)
    if piece.kind.startswith("elastic-"):
        return _elastic(piece, scale, places)
    config = run_config(piece, scale, places)
    found = _finished(config) or _run(config)
    return _record(piece, scale, found)


def _finished(config: RunConfig) -> RunResult | None:
    path = RunFolder(config.out).result
    if not path.is_file():
        return None
    found = RunResult.from_json(path.read_text(encoding="utf-8"))
    if changed := differences(found.config, config):
        raise OtherRunError(folder=config.out, fields=changed)
    return found


def _run(config: RunConfig) -> RunResult:
    """Short runs begin anew after a kill, so that disks are not filled with their checkpoints."""
    long = config.task == "pretraining"
    found = run(config, resume=config.out.exists(), checkpoints=long)
    shutil.rmtree(RunFolder(config.out).checkpoints, ignore_errors=True)
    return found


def _record(piece: Piece, scale: Scale, found: RunResult) -> Record:
    width = fitted_width(piece.system, scale)
    return Record(
        model=piece.model,
        seed=piece.seed,
        kind=piece.kind,
        metric=found.metric,
        metrics=found.metrics,
        width=width,
        kept=kept_parameters(build_empty(piece.system, width, scale)),
        stored=found.stored_parameters,
        hidden=found.hidden_parameters,
        read=found.read_parameters,
        steps=found.steps,
        seconds=found.seconds,
        ms_per_step=found.ms_per_step,
        provenance=found.provenance,
    )


def _blimp(piece: Piece, scale: Scale, places: Places) -> Record:
    path = piece.folder(places).with_suffix(".json")
    if path.is_file():
        return Record.from_json(path.read_text(encoding="utf-8"))
    assert places.blimp is not None
    (before,) = piece.after
    pretrained, provenance = do(before, scale, places), read_provenance()
    begun, found = time.perf_counter(), FinishedRun.load(before.folder(places))
    metrics = blimp_scores(found.model, found.processor, places.blimp, most=scale.blimp_pairs)
    record = pretrained.model_copy(
        update={
            "kind": piece.kind,
            "metric": "blimp",
            "metrics": {name: v for name, v in metrics.items() if "paradigm" not in name},
            "steps": 0,
            "seconds": time.perf_counter() - begun,
            "ms_per_step": 0.0,
            "provenance": provenance,
        }
    )
    write_text(path, record.to_json())
    return record


def do_all(
    wanted: Sequence[Piece], scale: Scale, places: Places, *, jobs: int
) -> Iterator[tuple[Piece, Record | BaseException]]:
    """Do all pieces in order, some at a time, none before what it needs.

    What fails is yielded as its error; what needs it is left out, the rest goes on.
    """
    context = multiprocessing.get_context("spawn")
    waiting, finished = list(wanted), set[Piece]()
    running: dict[Future[Record], Piece] = {}
    pool = ProcessPoolExecutor(jobs, context, initializer=begin_worker)
    try:
        while True:
            ready = [piece for piece in waiting if finished.issuperset(piece.after)]
            for piece in ready[: jobs - len(running)]:
                waiting.remove(piece)
                running[pool.submit(do_in_worker, piece, scale, places)] = piece
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                piece = running.pop(future)
                error = future.exception()
                if error is None:
                    finished.add(piece)
                yield piece, error or future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def do_in_worker(piece: Piece, scale: Scale, places: Places) -> Record:
    """`do`, whose errors become text: not every one of them can travel between processes."""
    try:
        return do(piece, scale, places)
    except Exception:
        told = traceback.format_exc()
    raise RuntimeError(f"{piece.model}, seed {piece.seed}, {piece.kind}:\n{told}")


def begin_worker() -> None:
    """One thread, no bars, and an end when whoever started this process ends, however that was."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _elastic(piece: Piece, scale: Scale, places: Places) -> Record:
    """DynaBERT's stages, and what all sub-networks reach; the whole one's metrics come first."""
    from embshare.tasks.elastic.making import ElasticResult, make_elastic

    (before,) = piece.after
    tuned, folder = do(before, scale, places), piece.folder(places)
    path = folder / "elastic.json"
    if path.is_file():
        found = ElasticResult.from_json(path.read_text(encoding="utf-8"))
    else:
        config = ElasticConfig(
            epochs=scale.elastic_epochs,
            batch_size=scale.tuning_batch,
            learning_rate=scale.elastic_rate,
            evaluate_every=scale.elastic_every,
            most_rows=scale.elastic_rows,
            seed=piece.seed,
        )
        found = make_elastic(before.folder(places), folder, config, resume=folder.exists())
    rows = found.sub_networks.rows
    return tuned.model_copy(
        update={
            "kind": piece.kind,
            "metrics": rows[0].metrics,
            "steps": sum(stage.steps for stage in found.stages),
            "seconds": sum(stage.seconds for stage in found.stages),
            "provenance": found.sub_networks.provenance,
            "more": {
                "before": found.before[tuned.metric],
                "rows": [row.model_dump(mode="json") for row in rows],
                "stages": [stage.model_dump(mode="json") for stage in found.stages],
                "batch": dict(found.sub_networks.batch),
            },
        }
    )


class Timed(Value):
    """One model, timed."""

    model: str
    width: int
    stored: int
    """Parameters of the whole pretraining model."""
    kept: int
    """Without the head and, of ConvBERT, the generator."""
    cpu_ms: float
    """Median processor time of a step and its data: what it takes where nothing else runs."""
    median_ms: float
    loss: float
    """Mean over the steps, in nats."""


class Times(Value):
    """All models, timed on one machine."""

    provenance: Provenance
    scale: Scale
    models: tuple[Timed, ...]


def time_model(name: str, scale: Scale, places: Places, steps: int) -> Timed:
    """Train some steps."""
    config = run_config(Piece(name, 0, "pretraining"), scale, places)
    task = config.to_task().prepare()
    model = task.processor.build(config.model, 0)
    if config.share is not None:
        embshare.share_from_embedding(model, config.share)
    settings = task.training.model_copy(update={"steps": steps})
    folder = places.work / "timing" / name
    folder.mkdir(parents=True, exist_ok=True)
    clock: list[float] = []
    trained = train(
        model,
        task.feed(),
        settings,
        seed=0,
        folder=folder,
        on_step=lambda: clock.append(time.process_time()),
    )
    return Timed(
        model=name,
        width=fitted_width(SYSTEMS[name], scale),
        stored=sum(parameter.numel() for parameter in model.parameters()),
        kept=kept_parameters(model),
        cpu_ms=1e3 * statistics.median(b - a for a, b in itertools.pairwise(clock)),
        median_ms=statistics.median(trained.step_ms),
        loss=trained.loss,
    )


TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "settings": settings_line,
    "all": study_table,
    "together": together_table,
    "elastic": elastic_table,
}
"""Parts of the page, by the names that it has for them."""


def main() -> None:
    """Read the arguments, then show, time or run."""
    given = _arguments()
    if given.table is not None:
        found = json.loads(given.table.read_text(encoding="utf-8"))
        print("\n\n".join(filter(None, (draw(found) for draw in TABLES.values()))))
        return
    torch.set_num_threads(1)
    scale = Scale(**{name: getattr(given, name) for name in Scale.model_fields})
    folders = {"text": given.text, "glue": given.glue, "blimp": given.blimp, "work": given.work}
    places = Places(**{name: path and path.resolve() for name, path in folders.items()})
    learn_vocabulary(scale, places)
    if given.time is not None:
        _time(given, scale, places)
    else:
        _study(given, scale, places)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, nargs="?")
    for name in ("glue", "blimp", "work", "out", "table"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--only", nargs="+", default=list(GROUPS), metavar="MODEL|GROUP")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--time", type=int, help="train so many steps of each model, and time them")
    for name, field in Scale.model_fields.items():
        several = get_origin(field.annotation) is tuple
        kind = get_args(field.annotation)[0] if several else field.annotation
        shape: dict[str, Any] = {"nargs": "+"} if several else {}
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=field.default, **shape)
    given = parser.parse_args()
    if given.table is None and (given.text is None or given.work is None):
        parser.error("WIKITEXT and --work are needed, or --table")
    return given


def chosen(only: Sequence[str]) -> list[str]:
    """Names of models, in their order, from names of models and groups.

    Raises:
        SystemExit: a name is neither.
    """
    if unknown := set(only) - set(SYSTEMS) - set(GROUPS):
        known = ", ".join((*GROUPS, *SYSTEMS))
        raise SystemExit(f"--only: {', '.join(sorted(unknown))}: must be of {known}")
    return [name for name, system in SYSTEMS.items() if {name, system.group} & set(only)]


def _time(given: argparse.Namespace, scale: Scale, places: Places) -> None:
    provenance, timed = read_provenance(), []
    for name in chosen(given.only):
        timed.append(time_model(name, scale, places, given.time))
        print(timed[-1].model_dump_json(), flush=True)
    if given.out is not None:
        times = Times(provenance=provenance, scale=scale, models=tuple(timed))
        write_text(given.out, times.to_json())


def _study(given: argparse.Namespace, scale: Scale, places: Places) -> None:
    provenance, records = read_provenance(), dict[Piece, Record]()
    wanted = list(pieces(chosen(given.only), given.seeds, scale, places))
    for piece, record in do_all(wanted, scale, places, jobs=given.jobs):
        told = f"{len(records)}/{len(wanted)} {piece.seed} {piece.model:20} {piece.kind:12}"
        if isinstance(record, BaseException):
            print(f"{told} failed: {record}", flush=True)
            continue
        records[piece] = record
        value = f"{record.metric} {record.metrics[record.metric]:.4g}"
        print(f"{told} {value}, {record.seconds:.0f} s", flush=True)
        if given.out is not None:
            kept = tuple(records[each] for each in wanted if each in records)
            study = Study(provenance=provenance, scale=scale, jobs=given.jobs, records=kept)
            write_text(given.out, study.to_json())
    if missing := len(wanted) - len(records):
        raise SystemExit(f"{missing} of {len(wanted)} runs failed, or need one that did")


if __name__ == "__main__":
    main()
