"""All of DynaBERT's training from a fine-tuned run: rewiring, three stages, and the table."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from embshare._value import Record
from embshare.errors import EmbshareError, InvalidValueError
from embshare.models import dynabert
from embshare.tasks.elastic.evaluation import SubNetworkReport, measure_sub_networks
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.elastic.stages import DEPTH_STAGE, TUNING_STAGE, WIDTH_STAGE, Stage
from embshare.tasks.elastic.training import StageResult, train_stage
from embshare.tasks.glue.task import PreparedGlue
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.folder import ForeignFolderError, OtherRunError, RunFolder, write_text
from embshare.tasks.running.loading import FinishedRun
from embshare.tasks.saving import save_trained
from embshare.tasks.text.rows import Pad, Rows

__all__ = ["ElasticResult", "NotElasticError", "StageRecord", "make_elastic"]

CONFIG: Final = "elastic-config.json"
RESULT: Final = "elastic.json"
STAGES: Final = "stages"
ALL_STAGES: Final = (WIDTH_STAGE, DEPTH_STAGE, TUNING_STAGE)


class NotElasticError(EmbshareError, ValueError):
    """A run cannot be made elastic."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a run of glue with a BERT or RoBERTa of transformers, dense or "
            f"shared, but {finding}. Fine-tune one with `embshare train glue --arch FOLDER`."
        )
        self.folder, self.finding = folder, finding


class StageRecord(Record):
    """What training one stage gave."""

    name: str
    steps: int
    loss: float
    """Mean over updates of the sum over sub-networks."""
    best_step: int
    """Whose parameters were kept."""
    total: float
    """The sum of the first metrics of the stage's sub-networks at that step."""
    seconds: float


class ElasticResult(Record):
    """The content of ``elastic.json``."""

    run: Path
    """The fine-tuned one."""
    task: str
    config: ElasticConfig
    before: dict[str, float]
    """Metrics of the fine-tuned model, the one to compare by first."""
    stages: tuple[StageRecord, ...]
    sub_networks: SubNetworkReport


def make_elastic(
    run: Path,
    out: Path,
    config: ElasticConfig | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> ElasticResult:
    """Make a fine-tuned model one that runs at twelve sizes.

    Importance and rewiring, the stage of widths, the stage of depths, tuning on labels, and a table
    of all sub-networks. The fine-tuned model is the first stage's teacher.

    Args:
        run: the folder of a run of glue.
        out: a new folder, laid out as a run's: ``model``, ``processor``, ``config.yaml``; with
            ``elastic.json`` in it.
        config: None is as published.
        overwrite: replace what is in it.
        resume: go on after the last stage that was finished; what is whole stays as it is.
    Returns:
        What stands in ``elastic.json``.
    Raises:
        InvalidValueError: ``overwrite`` and ``resume`` at once, or ``out`` is the run; or a size
            leaves no whole number of heads or layers.
        NotElasticError: the run is of another task, or its model has not the layers of BERT.
        RunExistsError: ``out`` holds something.
        ForeignFolderError: what it holds was not made elastic, and would be lost.
        OtherRunError: it was begun with other settings.
    """
    config, folder = config or ElasticConfig(), RunFolder(out)
    _check_arguments(run, out, overwrite=overwrite, resume=resume)
    found = FinishedRun.load(run)
    settings = found.config.model_copy(update={"out": out})
    asked = {"run": str(run), "config": config.model_dump(mode="json")}
    _check_folder(folder, settings, asked, overwrite=overwrite, resume=resume)
    if resume and (out / RESULT).is_file():
        return ElasticResult.from_json((out / RESULT).read_text(encoding="utf-8"))
    task, model = _prepared(run, found), found.model
    if overwrite:
        _clear_stages(out)
        (out / RESULT).unlink(missing_ok=True)
    folder.open(settings, overwrite=overwrite)
    write_text(out / CONFIG, json.dumps(asked, indent=2))
    task.processor.save(folder.processor)
    before, records = task.scores(model), list[StageRecord]()
    teacher = copy.deepcopy(model)
    dynabert.rewire(model, dynabert.importance(model, _batches(task, config.importance_batch)))
    for stage in _stages(config):
        done = out / STAGES / stage.name
        if (record := _finished(done)) is None:
            record = _train(model, stage, task, config, folder, teacher if stage.distil else None)
            _keep(model, done, record)
        else:
            model = _restored(task, done)
        records.append(record)
        teacher = copy.deepcopy(model)
    result = ElasticResult(
        run=run,
        task=task.config.name,
        config=config,
        before=before,
        stages=tuple(records),
        sub_networks=_measure(model, task, config),
    )
    save_trained(model, folder.model)
    write_text(out / RESULT, result.to_json())
    _clear_stages(out)
    return result


def _stages(config: ElasticConfig) -> tuple[Stage, ...]:
    return ALL_STAGES if config.tuning else ALL_STAGES[:2]


def _prepared(run: Path, found: FinishedRun) -> PreparedGlue:
    if found.config.task != "glue":
        raise NotElasticError(folder=run, finding=f"is one of {found.config.task}")
    try:
        for stage in (WIDTH_STAGE, DEPTH_STAGE):
            for size in stage.sizes:
                with dynabert.sized(found.model, width=size.width, depth=size.depth):
                    pass
    except EmbshareError as error:
        raise NotElasticError(folder=run, finding=str(error).rstrip(".")) from error
    prepared = found.config.to_task().prepare(found.processor, train=True)
    assert isinstance(prepared, PreparedGlue)
    return prepared


def _check_arguments(run: Path, out: Path, *, overwrite: bool, resume: bool) -> None:
    faults: list[str] = []
    if overwrite and resume:
        faults.append("`overwrite` and `resume` exclude each other: leave one out")
    if out.resolve() == run.resolve():  # replacing it would lose it
        faults.append(f"`out`: must be another folder than the run's, but is {str(out)!r}")
    if faults:
        raise InvalidValueError(what="elastic", faults=faults)


def _check_folder(
    folder: RunFolder,
    settings: RunConfig,
    asked: Mapping[str, object],
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    """Refuse what must not be written to."""
    folder.check(settings, overwrite=overwrite, resume=resume)
    begun = _begun(folder.root / CONFIG)
    if begun is None and (found := next(_parts(folder.root), None)):
        raise ForeignFolderError(folder=folder.root, found=found, needs=CONFIG)
    if resume and folder.is_run() and begun != asked:
        raise OtherRunError(folder=folder.root, fields=[CONFIG])


def _begun(path: Path) -> dict[str, object] | None:
    """What was asked for, perhaps of an earlier version; ``None`` where that is not to be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {"run", "config"} else None


def _parts(out: Path) -> Iterator[Path]:
    """The files that are written here besides those of a run."""
    for stage in ALL_STAGES:
        yield from (path for path in (out / STAGES / stage.name).rglob("*") if path.is_file())
    yield from (path for path in (out / CONFIG, out / RESULT) if path.is_file())


def _clear_stages(out: Path) -> None:
    """Remove what was kept of each, and nothing else."""
    for stage in ALL_STAGES:
        shutil.rmtree(out / STAGES / stage.name, ignore_errors=True)
    if (out / STAGES).is_dir() and not any((out / STAGES).iterdir()):
        (out / STAGES).rmdir()


def _batches(task: PreparedGlue, size: int) -> Iterator[dict[str, Tensor]]:
    """The development side in its order, with labels."""
    pad, rows = Pad(task.processor.start.tokenizer.pad), task.dev_rows
    for begin in range(0, len(rows), size):
        yield pad(rows[begin : begin + size])


def _train(
    model: nn.Module,
    stage: Stage,
    task: PreparedGlue,
    config: ElasticConfig,
    folder: RunFolder,
    teacher: nn.Module | None,
) -> StageRecord:
    begun = time.perf_counter()
    found: StageResult = train_stage(
        model,
        stage,
        Rows(task.rows[: config.most_rows]),  # type: ignore[arg-type]  # the collator makes tensors of them
        config,
        folder=folder.checkpoints,
        teacher=teacher,
        evaluate=task.scores,
        collate=Pad(task.processor.start.tokenizer.pad),
        seed=config.seed,
    )
    assert found.best is not None, "sub-networks were evaluated after the last step at least"
    return StageRecord(
        name=stage.name,
        steps=found.steps,
        loss=found.loss,
        best_step=found.best.step,
        total=found.best.total,
        seconds=time.perf_counter() - begun,
    )


def _keep(model: nn.Module, folder: Path, record: StageRecord) -> None:
    """The record comes last, and says that the rest is there."""
    save_trained(model, folder)
    write_text(folder / RESULT, record.to_json())


def _finished(folder: Path) -> StageRecord | None:
    path = folder / RESULT
    return StageRecord.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def _restored(task: PreparedGlue, folder: Path) -> nn.Module:
    return dynabert.restore(task.processor.build(str(folder), 0))


def _measure(model: nn.Module, task: PreparedGlue, config: ElasticConfig) -> SubNetworkReport:
    """On rows of the development side; without labels, as a model is used."""
    batch = Pad(task.processor.start.tokenizer.pad)(task.dev_rows[: config.measured_rows])
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    return measure_sub_networks(model, inputs, evaluate=task.scores, repeats=config.repeats)
