"""All of DynaBERT's training from a fine-tuned run: rewiring, three stages, and the table."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from embshare._value import Value
from embshare.errors import EmbshareError
from embshare.models import dynabert
from embshare.tasks.elastic.evaluation import SubNetworkReport, measure_sub_networks
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.elastic.stages import DEPTH_STAGE, TUNING_STAGE, WIDTH_STAGE, Stage
from embshare.tasks.elastic.training import StageResult, train_stage
from embshare.tasks.glue.task import PreparedGlue
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.folder import OtherRunError, RunFolder, write_text
from embshare.tasks.running.loading import FinishedRun
from embshare.tasks.saving import save_trained
from embshare.tasks.text.rows import Pad, Rows

__all__ = ["ElasticResult", "NotElasticError", "StageRecord", "make_elastic"]

CONFIG: Final = "elastic-config.json"
RESULT: Final = "elastic.json"
STAGES: Final = "stages"


class NotElasticError(EmbshareError, ValueError):
    """A run cannot be made elastic."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a run of glue with a BERT or RoBERTa of transformers, dense or "
            f"shared, but {finding}. Fine-tune one with `embshare train glue --arch FOLDER`."
        )
        self.folder, self.finding = folder, finding


class StageRecord(Value):
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


class ElasticResult(Value):
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
        resume: go on after the last stage that was finished.
    Returns:
        What stands in ``elastic.json``.
    Raises:
        NotElasticError: the run is of another task, or its model has not the layers of BERT.
        RunExistsError: ``out`` holds something.
        OtherRunError: it was begun with other settings.
        InvalidValueError: a size leaves no whole number of heads or layers.
    """
    config, found = config or ElasticConfig(), FinishedRun.load(run)
    task, model = _prepared(run, found), found.model
    folder = RunFolder(out)
    _open(folder, run, found.config, config, overwrite=overwrite, resume=resume)
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
    shutil.rmtree(out / STAGES)
    return result


def _stages(config: ElasticConfig) -> tuple[Stage, ...]:
    return (WIDTH_STAGE, DEPTH_STAGE, *((TUNING_STAGE,) if config.tuning else ()))


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


def _open(
    folder: RunFolder,
    run: Path,
    settings: RunConfig,
    config: ElasticConfig,
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    """Make the folder, or refuse the one that is there."""
    settings = settings.model_copy(update={"out": folder.root})
    folder.check(settings, overwrite=overwrite, resume=resume)
    asked = {"run": str(run), "config": config.model_dump(mode="json")}
    path = folder.root / CONFIG
    if resume and path.is_file() and json.loads(path.read_text(encoding="utf-8")) != asked:
        raise OtherRunError(folder=folder.root, fields=[CONFIG])
    if overwrite:
        shutil.rmtree(folder.root / STAGES, ignore_errors=True)
        (folder.root / RESULT).unlink(missing_ok=True)
    folder.open(settings, overwrite=overwrite)
    write_text(path, json.dumps(asked, indent=2))


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
