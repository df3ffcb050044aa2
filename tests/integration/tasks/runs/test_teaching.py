"""A run that learns from another run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from embshare.config import ShareConfig
from embshare.errors import EmbshareError
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.folder import NoRunError
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.teaching import TeacherRunError, prepare_taught, taught
from tests._support.task_examples import EXAMPLES
from tests.integration.tasks.pretraining.test_task import architecture


def config(folder: Path, task: str = "language_modelling", **fields: Any) -> RunConfig:
    data = folder / f"{task}-data"
    data.mkdir(exist_ok=True)
    settings = EXAMPLES[task].settings(data) | fields.pop("settings", {})
    chosen: dict[str, Any] = {"model": "conv", "out": folder / "run", "settings": settings}
    return RunConfig(task=task, **(chosen | fields))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    run(config(tmp_path, out=tmp_path / "teacher", model="lstm"))
    return tmp_path / "teacher"


def test_a_shared_model_learns_from_a_dense_one_of_another_kind(
    tmp_path: Path, teacher: Path
) -> None:
    student = config(tmp_path, teacher=teacher, share=ShareConfig(), settings={"width": 24})
    result = run(student)
    alone = run(config(tmp_path, share=ShareConfig(), settings={"width": 24}, out=tmp_path / "2"))
    assert result.metrics["perplexity"] != alone.metrics["perplexity"]
    assert RunConfig.from_yaml(student.out / "config.yaml").teacher == teacher
    words = "processor/tokenizer.json"
    assert (student.out / words).read_bytes() == (teacher / words).read_bytes()
    assert load_run(student.out).evaluate({}, folder=tmp_path)["perplexity"] > 1


def test_the_loss_is_mixed_where_tokens_are_predicted(tmp_path: Path, teacher: Path) -> None:
    settings = config(tmp_path, teacher=teacher, teacher_share=0.25, temperature=2.0)
    found = prepare_taught(settings)
    student = found.task.processor.build("conv", 0).eval()
    feed = taught(found.task.feed(), found.teacher, student, settings)
    rows: Any = feed.rows
    batch = {name: torch.stack([rows[i][name] for i in (0, 1)]) for name in rows[0]}
    assert feed.objective is not None
    loss = feed.objective(student, batch, 1)

    own, other = student(**batch), found.teacher(**batch)
    scored = F.pad(batch["labels"][:, 1:], (0, 1), value=-100) != -100
    soft = F.softmax(other["logits"][scored] / 2, dim=-1)
    logp = F.log_softmax(own["logits"][scored] / 2, dim=-1)
    taught_loss = -(soft * logp).sum(-1).mean() * 2**2
    torch.testing.assert_close(loss, 0.75 * own["loss"] + 0.25 * taught_loss)


@pytest.mark.parametrize("student", ["bert", "attention"])
def test_masked_tokens_are_distilled_from_logits_of_another_shape(
    tmp_path: Path, student: str
) -> None:
    """Logits of transformers are ``[1, M, V]``, those of the matched family ``[M, V]``."""
    models = {"attention": "attention", "bert": architecture(tmp_path, "bert")}
    (other,) = models.keys() - {student}
    first = config(tmp_path, "pretraining", out=tmp_path / "first", model=models[other])
    run(first)
    settings = config(
        tmp_path,
        "pretraining",
        teacher=first.out,
        model=models[student],
        share=ShareConfig(exclude=("cls.*",)) if student == "bert" else None,
    )
    taught_one = run(settings)
    alone = settings.model_copy(update={"teacher": None, "out": tmp_path / "alone"})
    assert taught_one.metrics["masked_perplexity"] != run(alone).metrics["masked_perplexity"]


def test_models_that_replace_words_have_no_teacher(tmp_path: Path) -> None:
    model, settings = architecture(tmp_path, "convbert"), {"objective": "replaced"}
    first = config(
        tmp_path, "pretraining", out=tmp_path / "first", model=model, settings=dict(settings)
    )
    run(first)
    second = config(
        tmp_path, "pretraining", teacher=first.out, model=model, settings=dict(settings)
    )
    with pytest.raises(TeacherRunError, match="would each replace tokens of their own"):
        run(second)
    assert not second.out.exists()


def test_a_share_of_nothing_is_a_run_without_a_teacher(tmp_path: Path, teacher: Path) -> None:
    without = run(config(tmp_path, out=tmp_path / "without"))
    nothing = run(config(tmp_path, teacher=teacher, teacher_share=0.0))
    assert nothing.metrics["perplexity"] == pytest.approx(without.metrics["perplexity"], rel=1e-5)


@pytest.mark.parametrize("task", ["glue", "translation"])
def test_a_teacher_of_another_task_is_refused(tmp_path: Path, teacher: Path, task: str) -> None:
    other = config(tmp_path, task, teacher=teacher, out=tmp_path / "other")
    with pytest.raises(TeacherRunError, match="is one of language_modelling"):
        run(other)
    assert not other.out.exists()


def test_a_loss_of_the_tasks_own_is_not_mixed(tmp_path: Path) -> None:
    first = run(config(tmp_path, "translation", out=tmp_path / "first"))
    second = config(tmp_path, "translation", teacher=first.config.out)
    with pytest.raises(TeacherRunError, match="set label_smoothing or scst_steps to 0"):
        run(second)
    plain = {"label_smoothing": 0.0}
    assert run(config(tmp_path, "translation", teacher=first.config.out, settings=plain)).steps


def test_a_folder_without_a_run_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoRunError):
        run(config(tmp_path, teacher=tmp_path / "nowhere"))
    with pytest.raises(EmbshareError, match="`teacher_share`"):
        config(tmp_path, teacher_share=2)
