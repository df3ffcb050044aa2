"""The runs of a study of systems: what each is, where it goes, and what it gave."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue
from small_systems import SYSTEMS, Sizes, System, build_empty, fitted_width, kept_parameters

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

__all__ = ["Piece", "Places", "Record", "Scale", "do", "learn_vocabulary", "pieces", "run_config"]


class Scale(Sizes):
    """Everything that may be chosen, each with its default here and an option of its name."""

    steps: int = 5_000
    """Of pretraining."""
    batch: int = 32
    """Rows of one of its steps, as long as they are short."""
    short_length: int = 16
    """Symbols of a row in most of pretraining. Models with absolute positions learn where to look
    in a fraction of the steps that rows of the full length take."""
    long_from: float = 0.75
    """Part of the steps after which rows have the full length, and batches fewer of them."""
    masking: str = "tokens"
    """What is hidden, see `embshare.tasks.pretraining.config.Masking`."""
    rate: float = 3e-3
    """Highest learning rate of models of transformers, published systems among them."""
    matched_rate: float = 1e-2
    """Of the matched models, whose tables are larger."""
    hidden_lr: float = 1.2
    """Of matrices of layers, or the projection that they come from, as a multiple of the rate."""
    matched_hidden_lr: float = 0.5
    """Likewise, of the matched models."""
    teacher_share: float = 0.5
    """Of the loss, in models that learn from a teacher."""
    tasks: tuple[str, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Of GLUE."""
    tuning_epochs: float = 3.0
    """Passes over the training side of each task."""
    tuning_batch: int = 32
    tuning_rate: float = 2e-3
    matched_tuning_rate: float = 1e-2
    tuning_hidden_lr: float = 0.3
    """As a multiple of the rate, of all models."""
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

    def vocabulary(self, scale: Scale) -> Path:
        """The tokenizer of all models, which is learned once."""
        return self.work / f"vocabulary-{scale.vocabulary}"


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
    hidden_lr = scale.matched_hidden_lr if matched else scale.hidden_lr
    sizes = {"width": width, "layers": scale.layers, "heads": scale.heads, "dropout": 0.0}
    fields["settings"] = _pretraining(scale, places) | {
        **(sizes if matched else {}),
        "objective": "replaced" if system.replaced else "masked",
        "training": {
            "steps": scale.steps,
            "batch_size": scale.batch,
            "learning_rate": rate,
            "hidden_lr": hidden_lr,
        },
    }
    return RunConfig(task="pretraining", share=system.share(scale), **fields)


def _pretraining(scale: Scale, places: Places) -> dict[str, Any]:
    return {
        "data": places.text,
        "cache": places.work / "symbols",
        "tokenizer": str(places.vocabulary(scale)),
        "length": scale.short_length,
        "late_length": scale.length,
        "late_from": scale.long_from,
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
        "dropout": 0.0,
        "token_types": None if piece.system.kinds else False,
        "training": {
            "epochs": scale.tuning_epochs,
            "batch_size": scale.tuning_batch,
            "learning_rate": rate,
            "hidden_lr": scale.tuning_hidden_lr,
        },
    }


def learn_vocabulary(scale: Scale, places: Places) -> None:
    """Write the tokenizer that all models have, and the text in its symbols."""
    folder = places.vocabulary(scale)
    if not (folder / "tokenizer.json").is_file():
        settings = _pretraining(scale, places) | {
            "tokenizer": None,
            "vocabulary_size": scale.vocabulary,
        }
        task = Pretraining(PretrainingConfig(**settings)).prepare()
        folder.mkdir(parents=True, exist_ok=True)
        task.processor.save(folder)
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
    path = piece.folder(places).with_name(f"blimp-{scale.blimp_pairs}.json")
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


def _elastic(piece: Piece, scale: Scale, places: Places) -> Record:
    """DynaBERT's stages, and what all sub-networks reach; the whole one's metrics come first."""
    from embshare.tasks.elastic.making import ElasticResult, make_elastic

    (before,) = piece.after
    tuned, folder = do(before, scale, places), piece.folder(places)
    config = ElasticConfig(
        epochs=scale.elastic_epochs,
        batch_size=scale.tuning_batch,
        learning_rate=scale.elastic_rate,
        evaluate_every=scale.elastic_every,
        most_rows=scale.elastic_rows,
        seed=piece.seed,
    )
    path = folder / "elastic.json"
    if path.is_file():
        found = ElasticResult.from_json(path.read_text(encoding="utf-8"))
        if found.config != config:
            raise OtherRunError(folder=folder, fields=["elastic"])
    else:
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
