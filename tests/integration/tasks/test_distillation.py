"""Distillation for any task."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from embshare.errors import InvalidValueError
from embshare.models.distillation import soft_cross_entropy
from embshare.tasks.distillation import Teacher, mix_losses
from tests.integration.models.dynabert.examples import batch, model


def test_a_teacher_gets_no_labels_and_no_graph() -> None:
    teacher, student = model(sharing="tied").train(), model()
    found = Teacher(teacher, student).scores(batch())
    assert not teacher.training and not found.requires_grad
    assert torch.equal(found, teacher(**batch(labels=False)).logits)


def test_a_loss_between_labels_and_teacher() -> None:
    student, teacher = torch.randn(2, 4, 5, requires_grad=True), torch.randn(2, 4, 5)
    labels = torch.tensor([[0, 1, -100, 2], [-100, -100, 4, 3]])
    own = F.cross_entropy(student.transpose(1, 2), labels)
    assert torch.equal(mix_losses(own, student, teacher, share=0), own)
    scored = labels != -100
    wanted = soft_cross_entropy(student[scored], teacher[scored], temperature=3)
    found = mix_losses(own, student, teacher, share=1, temperature=3, labels=labels)
    assert torch.allclose(found, wanted)
    half = mix_losses(own, student, teacher, share=0.5, temperature=3, labels=labels)
    assert torch.allclose(half, (own + wanted) / 2)
    nothing = mix_losses(own, student, teacher, share=1, labels=torch.full((2, 4), -100))
    assert float(nothing.detach()) == 0


def test_what_cannot_be() -> None:
    scores = torch.ones(2, 3)
    with pytest.raises(InvalidValueError, match=r"`share` must be from 0 to 1, but is 1\.5"):
        mix_losses(torch.tensor(1.0), scores, scores, share=1.5)
    made = model()
    with pytest.raises(InvalidValueError, match="it must not be the student itself"):
        Teacher(made, made)
    with pytest.raises(InvalidValueError, match="the teacher's labels must be the student's"):
        Teacher(model("BertForQuestionAnswering"), made)
    with pytest.raises(InvalidValueError, match="must return `logits`, but returns"):
        Teacher(model("BertModel"), torch.nn.Linear(1, 1)).scores(batch())
