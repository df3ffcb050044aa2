"""Losses by which one model learns from another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import BertConfig

from embshare.errors import InvalidValueError
from embshare.models.distillation import require_same_labels, soft_cross_entropy, state_loss


def labels(count: int) -> Any:
    settings: dict[str, Any] = {"num_labels": count}
    return BertConfig(**settings)


def test_a_value_worked_out_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]])
    assert float(soft_cross_entropy(student, teacher)) == pytest.approx(0.5822, abs=5e-5)


def test_it_is_least_where_both_agree_and_its_gradient_keeps_its_size() -> None:
    teacher = torch.randn(5, 3)
    sizes = []
    for temperature in (1.0, 100.0):
        student = teacher.clone().requires_grad_()
        soft_cross_entropy(student, teacher, temperature=temperature).backward()
        assert student.grad is not None and student.grad.abs().max() < 1e-3
        student = (teacher + 0.1 * torch.randn(5, 3)).requires_grad_()
        soft_cross_entropy(student, teacher, temperature=temperature).backward()
        assert student.grad is not None
        sizes.append(float(student.grad.norm()))
    assert 0.2 < sizes[1] / sizes[0] < 5


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    (soft_cross_entropy(student, teacher) + state_loss([student], [teacher])).backward()
    assert student.grad is not None and teacher.grad is None


def test_states_are_summed_and_their_elements_averaged() -> None:
    ours, theirs = (list(torch.randn(3, 2, 4, 5)) for _ in range(2))
    wanted = sum(F.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.allclose(state_loss(ours, theirs), torch.as_tensor(wanted))


def test_what_does_not_fit() -> None:
    with pytest.raises(InvalidValueError, match=r"scores must be \(2, 3\), as the student's, but"):
        soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(InvalidValueError, match="`temperature` must be above 0, but is 0"):
        soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 3), temperature=0)
    with pytest.raises(InvalidValueError, match="as many as the student's 1, and at least one"):
        state_loss([torch.ones(2)], [torch.ones(2)] * 2)
    with pytest.raises(InvalidValueError, match="at least one, but are 0"):
        state_loss([], [])
    with pytest.raises(InvalidValueError, match=r"states must be \(2,\), as the student's"):
        state_loss([torch.ones(2)], [torch.ones(3)])


def test_a_teacher_with_other_labels() -> None:
    names = {0: "no", 1: "yes"}
    same = BertConfig(id2label=names)
    require_same_labels(same, BertConfig(id2label=dict(names)))
    require_same_labels(same, labels(2))  # not named: only their number is known
    with pytest.raises(InvalidValueError) as caught:
        require_same_labels(same, BertConfig(id2label={0: "yes", 1: "no"}))
    assert str(caught.value) == (
        "distillation is not valid: the teacher's labels must be the student's, ['no', 'yes'], but "
        "are ['yes', 'no']."
    )
    with pytest.raises(InvalidValueError, match="the teacher's labels must be the student's"):
        require_same_labels(same, labels(3))
