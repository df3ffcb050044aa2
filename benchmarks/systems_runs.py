"""The trials of a study of systems: what each is, where it goes, and what it gave."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue
from small_systems import SYSTEMS, Sizes, System, build_empty, fitted_width, kept_parameters

from embshare._value import Value
from embshare.tasks.blimp import blimp_scores
from embshare.tasks.elastic.making import ElasticResult, make_elastic
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.task import Pretraining
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RESULT
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.record import TrialRecord
from embshare.tasks.studies.study_file import TRIALS, Trial

__all__ = ["Places", "Record", "Scale", "learn_vocabulary", "record_of", "trials"]


class Scale(Sizes):
    """Everything that may be chosen, each with its default here and an option of its name."""

    steps: int = 5_000
    """Pretraining steps."""
    batch: int = 32
    """Batch size (sequences) while rows are short."""
    short_length: int = 16
    """Sequence length in most of pretraining. Models with absolute positions learn where to look
    in a fraction of the steps that rows of the full length take."""
    long_from: float = 0.75
    """Fraction of the steps after which rows have the full length, and batches fewer rows."""
    masking: str = "tokens"
    """Masking, see `embshare.tasks.pretraining.config.Masking`."""
    rate: float = 3e-3
    """Peak learning rate of models of transformers, published systems among them."""
    matched_rate: float = 1e-2
    """Peak learning rate of the matched models, whose tables are larger."""
    hidden_lr: float = 1.2
    """Learning rate of matrices of layers, or of their projection, as a multiple of `rate`."""
    matched_hidden_lr: float = 0.5
    """The same multiple for the matched models."""
    teacher_share: float = 0.5
    """Weight of the distillation loss, in models with a teacher."""
    tasks: tuple[str, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Tasks of GLUE."""
    tuning_epochs: float = 3.0
    """Epochs over the training set of each task."""
    tuning_batch: int = 32
    tuning_rate: float = 2e-3
    matched_tuning_rate: float = 1e-2
    tuning_hidden_lr: float = 0.3
    """Learning rate of hidden matrices as a multiple of the tuning rate, for all models."""
    tuning_rows: int = 20_000
    """Maximum number of training examples of a task."""
    blimp_pairs: int = 20
    """Pairs of each of the 67 paradigms; 0 leaves BLiMP out."""
    elastic_tasks: tuple[str, ...] = ("sst2", "mrpc")
    """Tasks for which models of the group elastic go through DynaBERT's stages."""
    elastic_seeds: tuple[int, ...] = (0,)
    """Seeds of those models, whatever ``--seeds`` says."""
    elastic_rows: int = 1_600
    """Maximum number of training examples in each stage."""
    elastic_epochs: float = 1.0
    """Epochs of each stage."""
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

    def run(self, model: str, seed: int, kind: str) -> Path:
        """Folder of one trial's run."""
        return self.work / TRIALS / f"seed-{seed}--{model}--{kind}"


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
    """Stored parameters of this run's model with its head."""
    hidden: int
    """Stored parameters besides embedding tables."""
    read: int
    """Parameters that layers compute with; a shared one counts at each reader."""
    steps: int
    seconds: float
    ms_per_step: float
    provenance: Provenance
    more: dict[str, JsonValue] = Field(default_factory=dict)
    """Rows of sub-networks."""


def trials(
    names: Sequence[str], seeds: Sequence[int], scale: Scale, places: Places
) -> Iterator[Trial]:
    """All trials, those of one seed together; teachers that nobody named are there too."""
    teachers = {SYSTEMS[name].teacher for name in names} - {None, *names}
    for seed in seeds:
        for name in SYSTEMS:
            if name in teachers:
                yield _pretraining_trial(SYSTEMS[name], seed, scale, places)
        for name in names:
            yield from _trials(SYSTEMS[name], seed, scale, places)


def _trials(system: System, seed: int, scale: Scale, places: Places) -> Iterator[Trial]:
    elastic = system.group == "elastic"
    if elastic and (places.glue is None or seed not in scale.elastic_seeds):
        return
    yield _pretraining_trial(system, seed, scale, places)
    if places.glue is not None:
        for task in scale.elastic_tasks if elastic else scale.tasks:
            yield _tuning_trial(system, seed, task, scale, places)
            if elastic:
                yield _elastic_trial(system, seed, task, scale, places)
    if places.blimp is not None and scale.blimp_pairs and not elastic:
        yield _blimp_trial(system, seed, scale, places, places.blimp)


def _labels(system: System, seed: int, kind: str) -> dict[str, str]:
    return {"model": system.name, "seed": str(seed), "kind": kind}


def _pretraining_trial(system: System, seed: int, scale: Scale, places: Places) -> Trial:
    matched, fields = system.config is None, _same(system, seed, "pretraining", scale, places)
    needs: tuple[str, ...] = ()
    if system.teacher is not None:
        teacher = places.run(system.teacher, seed, "pretraining")
        fields |= {"teacher": teacher, "teacher_share": scale.teacher_share}
        needs = (teacher.name,)
    width = fitted_width(system, _sizes(scale))
    sizes = {"width": width, "layers": scale.layers, "heads": scale.heads, "dropout": 0.0}
    settings = _pretraining(scale, places) | {
        **(sizes if matched else {}),
        "objective": "replaced" if system.replaced else "masked",
        "training": {
            "steps": scale.steps,
            "batch_size": scale.batch,
            "learning_rate": scale.matched_rate if matched else scale.rate,
            "hidden_lr": scale.matched_hidden_lr if matched else scale.hidden_lr,
        },
    }
    config = RunConfig(task="pretraining", share=system.share(scale), settings=settings, **fields)
    return Trial(labels=_labels(system, seed, "pretraining"), config=config, needs=needs)


def _tuning_trial(system: System, seed: int, task: str, scale: Scale, places: Places) -> Trial:
    before = places.run(system.name, seed, "pretraining")
    rate = scale.matched_tuning_rate if system.config is None else scale.tuning_rate
    config = RunConfig(
        task="glue",
        settings=_tuning(system, task, before, rate, scale, places),
        **_same(system, seed, task, scale, places),
    )
    return Trial(labels=_labels(system, seed, task), config=config, needs=(before.name,))


def _same(system: System, seed: int, kind: str, scale: Scale, places: Places) -> dict[str, Any]:
    width = fitted_width(system, _sizes(scale))
    return {
        "model": system.model(width, scale, places.work / "architectures" / system.name),
        "seed": seed,
        "out": places.run(system.name, seed, kind),
    }


def _sizes(scale: Scale) -> Sizes:
    return Sizes(**{name: getattr(scale, name) for name in Sizes.model_fields})


def _pretraining(scale: Scale, places: Places) -> dict[str, Any]:
    return {
        "data": places.text,
        "cache": places.work / "tokens",
        "tokenizer": str(places.vocabulary(scale)),
        "length": scale.short_length,
        "late_length": scale.length,
        "late_from": scale.long_from,
        "masking": scale.masking,
        "mask_share": scale.mask_share,
    }


def _tuning(
    system: System, task: str, before: Path, rate: float, scale: Scale, places: Places
) -> dict[str, Any]:
    return {
        "name": task,
        "data": places.glue,
        "init_from": before,
        "length": scale.length,
        "most_rows": scale.tuning_rows,
        "test_set": False,
        "dropout": 0.0,
        "token_types": None if system.kinds else False,
        "training": {
            "epochs": scale.tuning_epochs,
            "batch_size": scale.tuning_batch,
            "learning_rate": rate,
            "hidden_lr": scale.tuning_hidden_lr,
        },
    }


@dataclass(frozen=True)
class Blimp:
    """Scores of a pretrained model on BLiMP."""

    of: Path
    """Folder of its run."""
    data: Path
    pairs: int
    """Pairs of each paradigm."""

    def __call__(self, config: RunConfig, resume: bool) -> RunResult:
        """The pretraining's result with these metrics in place of the pretraining's."""
        begun, provenance = time.perf_counter(), read_provenance()
        found = load_run(self.of)
        scores = blimp_scores(found.model, found.processor, self.data, most=self.pairs)
        return _result(self.of).model_copy(
            update={
                "metric": "blimp",
                "metrics": {name: v for name, v in scores.items() if "paradigm" not in name},
                "steps": 0,
                "seconds": time.perf_counter() - begun,
                "ms_per_step": 0.0,
                "provenance": provenance,
            }
        )


def _blimp_trial(system: System, seed: int, scale: Scale, places: Places, data: Path) -> Trial:
    before = _pretraining_trial(system, seed, scale, places)
    kind = f"blimp-{scale.blimp_pairs}"
    config = before.config.model_copy(update={"out": places.run(system.name, seed, kind)})
    work = Blimp(before.config.out, data, scale.blimp_pairs)
    return Trial(
        labels=_labels(system, seed, "blimp"), config=config, needs=(before.name,), work=work
    )


@dataclass(frozen=True)
class Elastic:
    """DynaBERT's stages, and what all sub-networks reach."""

    of: Path
    """Folder of the fine-tuned run."""
    settings: ElasticConfig

    def __call__(self, config: RunConfig, resume: bool) -> RunResult:
        """The fine-tuning's result with the metrics of the whole sub-network."""
        found = make_elastic(
            self.of, config.out, self.settings, overwrite=not resume, resume=resume
        )
        return _result(self.of).model_copy(
            update={
                "metrics": found.sub_networks.rows[0].metrics,
                "steps": sum(stage.steps for stage in found.stages),
                "seconds": sum(stage.seconds for stage in found.stages),
                "provenance": found.sub_networks.provenance,
            }
        )


def _elastic_trial(system: System, seed: int, task: str, scale: Scale, places: Places) -> Trial:
    before, kind = _tuning_trial(system, seed, task, scale, places), f"elastic-{task}"
    settings = ElasticConfig(
        epochs=scale.elastic_epochs,
        batch_size=scale.tuning_batch,
        learning_rate=scale.elastic_rate,
        evaluate_every=scale.elastic_every,
        most_rows=scale.elastic_rows,
        seed=seed,
    )
    config = before.config.model_copy(update={"out": places.run(system.name, seed, kind)})
    work = Elastic(before.config.out, settings)
    return Trial(labels=_labels(system, seed, kind), config=config, needs=(before.name,), work=work)


def _result(run: Path) -> RunResult:
    return RunResult.from_json((run / RESULT).read_text(encoding="utf-8"))


def record_of(trial: TrialRecord, scale: Scale, places: Places) -> Record:
    """A trial as a row of the tables."""
    model, seed, kind = (trial.labels[axis] for axis in ("model", "seed", "kind"))
    system, found = SYSTEMS[model], trial.result
    width, more = fitted_width(system, _sizes(scale)), dict[str, JsonValue]()
    if kind.startswith("elastic-"):
        path = places.run(model, int(seed), kind) / "elastic.json"
        made = ElasticResult.from_json(path.read_text(encoding="utf-8"))
        more = {
            "before": made.before[found.metric],
            "rows": [row.model_dump(mode="json") for row in made.sub_networks.rows],
            "stages": [stage.model_dump(mode="json") for stage in made.stages],
            "batch": {name: list(shape) for name, shape in made.sub_networks.batch.items()},
        }
    return Record(
        model=model,
        seed=int(seed),
        kind=kind,
        metric=found.metric,
        metrics=found.metrics,
        width=width,
        kept=kept_parameters(build_empty(system, width, scale)),
        stored=found.stored_parameters,
        hidden=found.hidden_parameters,
        read=found.read_parameters,
        steps=found.steps,
        seconds=found.seconds,
        ms_per_step=found.ms_per_step,
        provenance=found.provenance,
        more=more,
    )


def learn_vocabulary(scale: Scale, places: Places) -> None:
    """Write the tokenizer that all models have, and the text in its tokens."""
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
