"""All of DynaBERT's training from a fine-tuned run: rewiring, three stages, and the table."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from torch import Tensor, nn
from torch.utils.data import Subset

from embshare._value import Record
from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.tasks.elastic.evaluation import SubNetworkReport, measure_sub_networks
from embshare.tasks.elastic.objective import DEPTH_STAGE, TUNING_STAGE, WIDTH_STAGE, Stage
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.elastic.training import train_stage
from embshare.tasks.glue.task import PreparedGlue
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import ForeignFolderError, OtherRunError, RunFolder, write_text
from embshare.tasks.runs.loading import FinishedRun, load_run
from embshare.tasks.saving import load_trained, save_trained

__all__ = ["ElasticResult", "StageRecord", "make_elastic"]

CONFIG: Final = "elastic-config.json"
RESULT: Final = "elastic.json"
STAGES: Final = "stages"
ALL_STAGES: Final = (WIDTH_STAGE, DEPTH_STAGE, TUNING_STAGE)


class StageRecord(Record):
    """Result of training one stage."""

    name: str
    steps: int
    loss: float
    """Mean over updates of the sum over sub-networks."""
    best_step: int
    """The step whose parameters were kept."""
    total: float
    """The sum of the first metrics of the stage's sub-networks at that step."""
    seconds: float


class ElasticResult(Record):
    """The content of ``elastic.json``."""

    run: Path
    """The fine-tuned run."""
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
        out: a new folder, arranged as a run's: ``model``, ``processor``, ``config.yaml``; with
            ``elastic.json`` in it.
        config: None is as published.
        overwrite: replace what is in it.
        resume: resume after the last stage that was finished; a finished result stays as it is.
    Returns:
        The content of ``elastic.json``.
    Raises:
        InvalidValueError: ``overwrite`` and ``resume`` at once, or ``out`` is the run; the run is
            of another task, or its model has not the layers of BERT or does not divide into the
            sizes.
        RunExistsError: ``out`` holds something.
        ForeignFolderError: what it holds was not made elastic, and would be lost.
        OtherRunError: it was begun with other settings.
    """
    config, folder = config or ElasticConfig(), RunFolder(out)
    _check_arguments(run, out, overwrite=overwrite, resume=resume)
    found = load_run(run)
    settings = found.config.model_copy(update={"out": out})
    asked = {"run": str(run), "config": config.model_dump(mode="json")}
    _check_folder(folder, settings, asked, overwrite=overwrite, resume=resume)
    if resume and (out / RESULT).is_file():
        return ElasticResult.from_json((out / RESULT).read_text(encoding="utf-8"))
    task, model = _prepare(run, found), found.model
    if overwrite:
        _clear_stages(out)
        (out / RESULT).unlink(missing_ok=True)
    folder.open(settings, overwrite=overwrite)
    write_text(out / CONFIG, json.dumps(asked, indent=2))
    task.processor.save(folder.processor)
    before, records = task.scores(model), list[StageRecord]()
    teacher = copy.deepcopy(model)
    dynabert.rewire(model, dynabert.importance(model, _batches(task, config.importance_batch)))
    for stage in ALL_STAGES if config.tuning else ALL_STAGES[:2]:
        done = out / STAGES / stage.name
        if (done / RESULT).is_file():
            record = StageRecord.from_json((done / RESULT).read_text(encoding="utf-8"))
            model = dynabert.restore(load_trained(done, task.processor, found.config.model))
            model.to(next(found.model.parameters()).device)
        else:
            record = _train(model, stage, task, config, folder, teacher if stage.distil else None)
            save_trained(model, done)
            write_text(done / RESULT, record.to_json())  # last: it says that the rest is there
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
    stages = (folder.root / STAGES / stage.name for stage in ALL_STAGES)
    for path in (folder.root / CONFIG, folder.root / RESULT, *stages):
        if begun is None and path.exists():
            raise ForeignFolderError(folder=folder.root, found=path, needs=CONFIG)
    if resume and folder.is_run() and begun != asked:
        raise OtherRunError(folder=folder.root, fields=[CONFIG])


def _begun(path: Path) -> dict[str, object] | None:
    """Settings that it was begun with, perhaps by an earlier version; ``None`` if unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {"run", "config"} else None


def _clear_stages(out: Path) -> None:
    """Remove what was kept of each, and nothing else."""
    for stage in ALL_STAGES:
        shutil.rmtree(out / STAGES / stage.name, ignore_errors=True)
    with suppress(OSError):  # somebody else's files are in it, or it is not there
        (out / STAGES).rmdir()


def _prepare(run: Path, found: FinishedRun) -> PreparedGlue:
    """The run's data, where its model can be made smaller.

    Raises:
        InvalidValueError: it cannot.
    """
    finding = None if found.config.task == "glue" else f"is a run of {found.config.task}"
    try:
        for size in dynabert.sub_networks():
            with dynabert.sized(found.model, **dict(size)):
                pass
    except InvalidValueError as error:
        finding = finding or str(error).rstrip(".")
    if finding is not None:
        fault = (
            "it must be a run of glue with a BERT or RoBERTa of transformers, dense or shared, but "
            f"{finding}: fine-tune one with `embshare train glue --arch FOLDER`"
        )
        raise InvalidValueError(what=f"the run `{run}`", faults=[fault])
    prepared = found.config.to_task().prepare(found.processor, train=True)
    assert isinstance(prepared, PreparedGlue)
    return prepared


def _batches(task: PreparedGlue, size: int) -> Iterator[dict[str, Tensor]]:
    """The validation set in its order, with labels."""
    collate, rows = task.feed().collate, task.dev_rows
    assert collate is not None, "rows of glue are padded"
    for begin in range(0, len(rows), size):
        yield collate(rows[begin : begin + size])


def _train(
    model: nn.Module,
    stage: Stage,
    task: PreparedGlue,
    config: ElasticConfig,
    folder: RunFolder,
    teacher: nn.Module | None,
) -> StageRecord:
    begun, feed = time.perf_counter(), task.feed()
    found = train_stage(
        model,
        stage,
        Subset(feed.rows, range(len(task.rows))[: config.most_rows]),
        config.training,
        folder=folder.checkpoints,
        teacher=teacher,
        evaluate=task.scores,
        evaluate_every=config.evaluate_every,
        collate=feed.collate,
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


def _measure(model: nn.Module, task: PreparedGlue, config: ElasticConfig) -> SubNetworkReport:
    """Measure on examples of the validation set; without labels, as a model is used."""
    batch, device = next(_batches(task, config.measured_rows)), next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    return measure_sub_networks(model, inputs, evaluate=task.scores, repeats=config.repeats)
