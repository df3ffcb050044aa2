"""The loss of a sub-network that learns from a teacher: a pure function of outputs.

Letters: B batch, T positions, C classes, H width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.models.distillation import soft_cross_entropy, state_loss
from embshare.models.dynabert.sizes import Size, matched_states

__all__ = ["distillation_loss"]


def distillation_loss(
    student_logits: Tensor,
    student_states: Sequence[Tensor],
    teacher_logits: Tensor,
    teacher_states: Sequence[Tensor],
    *,
    size: Size,
    logits_weight: float = 1.0,
    states_weight: float = 1.0,
) -> Tensor:
    """``logits_weight * SCE + states_weight * sum MSE`` of one sub-network against its teacher.

    Labels are not used. With one output (regression) the scores are not compared, only the states.

    Args:
        student_logits: ``[B, C]``, or ``[B, T, C]``.
        student_states: of the embeddings and of each layer that was run, ``[B, T, H]`` each.
        teacher_logits: as the student's.
        teacher_states: all ``L + 1`` of a teacher at full depth, or as many as the student's of one
            with the same depth.
        size: the student's, for which of the teacher's states are compared: see `matched_states`.
        logits_weight: the paper's lambda 1.
        states_weight: the paper's lambda 2: officially 0.1 in the first stage and 1 in the second.
            At 0 the states may be of any width and number.
    Returns:
        A scalar.
    Raises:
        InvalidValueError: shapes or numbers of states that do not fit.
    Source:
        The official ``train``.
    """
    if student_logits.shape[-1:] != teacher_logits.shape[-1:]:
        fault = (
            f"the teacher must have {student_logits.shape[-1]} labels, as the student, but has "
            f"{teacher_logits.shape[-1]}"
        )
        raise InvalidValueError(what="distillation", faults=[fault])
    loss = student_logits.new_zeros(())
    if states_weight:
        if len(teacher_states) != len(student_states):
            chosen = matched_states(len(teacher_states) - 1, size.depth)
            teacher_states = [teacher_states[index] for index in chosen]
        loss = loss + states_weight * state_loss(student_states, teacher_states)
    if student_logits.shape[-1] > 1:
        loss = loss + logits_weight * soft_cross_entropy(student_logits, teacher_logits)
    return loss
