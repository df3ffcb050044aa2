"""The published systems, and sharing together with each, at one budget: pretrained, then tuned.

    python benchmarks/systems.py WIKITEXT --glue GLUE --blimp BLIMP --work FOLDER --out RESULT.json
    python benchmarks/systems.py WIKITEXT --work FOLDER --time 12 --out TIMES.json
    python benchmarks/systems.py --table RESULT.json

WIKITEXT, GLUE and BLIMP are folders in the published layouts. Each model is pretrained on WikiText,
fine-tuned on the tasks of GLUE, and scored on BLiMP, for each seed; every one of these is a trial
with its own folder under FOLDER. A finished trial is not repeated, and one that was killed is
resumed from its last checkpoint, so the same command resumes a study. All models of one seed come
before those of the next. RESULT.json is written again after each trial.

``--only`` names models, or groups of them: systems, together, matched, elastic. ``--time`` trains
that many steps of each model and writes sizes and times alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import torch
from small_systems import GROUPS, SYSTEMS, fitted_width, kept_parameters
from systems_runs import Places, Record, Scale, learn_vocabulary, record_of, trials
from systems_tables import elastic_table, matched_table, settings_line, study_table, together_table

import embshare
from embshare._value import Value
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.runs.folder import write_text
from embshare.tasks.studies.engine import do_trials, local_pool
from embshare.tasks.studies.record import TrialRecord
from embshare.tasks.studies.study_file import TRIALS, Trial
from embshare.tasks.studies.trial import Doing, code_of
from embshare.tasks.training import train

__all__ = ["TABLES", "Study", "Times", "Written", "hold_to_scale"]


class Study(Value):
    """All records so far."""

    provenance: Provenance
    scale: Scale
    jobs: int
    """Runs at a time, each on one thread."""
    records: tuple[Record, ...]


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
    config = next(trials([name], [0], scale, places)).config
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
    "matched": matched_table,
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
    parser.add_argument("--time", type=int, help="train N steps of each model, and time them")
    for name, field in Scale.model_fields.items():
        several = get_origin(field.annotation) is tuple
        kind: Any = get_args(field.annotation)[0] if several else field.annotation
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


class Written:
    """Writes the study again after each trial."""

    def __init__(self, study: Study, places: Places, out: Path | None) -> None:
        self.study, self.places, self.out = study, places, out
        self.order: list[str] = []
        self.records: dict[str, Record] = {}

    def planned(self, trials: Sequence[Trial]) -> None:
        """The study begins."""
        self.order = [trial.name for trial in trials]

    def begun(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        """A trial is done."""
        number = f"{self.order.index(trial.name) + 1}/{len(self.order)} {trial.name}"
        if isinstance(found, Exception):
            print(f"{number} failed: {found}", flush=True)
            return
        self.records[trial.name] = record_of(found, self.study.scale, self.places)
        result = found.result
        value = f"{result.metric} {result.metrics[result.metric]:.4g}"
        print(f"{number} {value}, {result.seconds:.0f} s", flush=True)
        if self.out is not None:
            kept = tuple(self.records[name] for name in self.order if name in self.records)
            write_text(self.out, self.study.model_copy(update={"records": kept}).to_json())


def _study(given: argparse.Namespace, scale: Scale, places: Places) -> None:
    provenance = read_provenance()
    study = Study(provenance=provenance, scale=scale, jobs=given.jobs, records=())
    wanted = list(trials(chosen(given.only), given.seeds, scale, places))
    hold_to_scale(scale, places)
    with local_pool(given.jobs, len(wanted)) as pool:
        found = do_trials(
            wanted,
            pool,
            how=Doing(code=code_of(provenance), checkpoints=True),
            observer=Written(study, places, given.out),
        )
    if found.failed:
        raise SystemExit(
            f"{len(found.failed)} of {len(wanted)} trials failed, or need one that did"
        )


def hold_to_scale(scale: Scale, places: Places) -> None:
    """Let a folder have trials of one scale alone.

    Raises:
        SystemExit: it was begun with another.
    """
    (places.work / TRIALS).mkdir(parents=True, exist_ok=True)
    path = places.work / "scale.json"
    if path.is_file():
        before = Scale.from_json(path.read_text(encoding="utf-8"))
        names = [n for n in Scale.model_fields if getattr(before, n) != getattr(scale, n)]
        if names:
            raise SystemExit(
                f"--work: {places.work} was begun with another {', '.join(names)}, see {path}. "
                "Leave them as they are, or name another folder."
            )
    write_text(path, scale.to_json())


if __name__ == "__main__":
    main()
