"""What models of the BERT kind do with their input before the first norm."""

from __future__ import annotations

from torch import Tensor, nn

from embshare.errors import InvalidValueError

__all__ = ["sum_embeddings"]


def sum_embeddings(
    tables: tuple[nn.Embedding, nn.Embedding, nn.Embedding],
    input_ids: Tensor | None,
    token_type_ids: Tensor | None,
    words: Tensor | None,
) -> Tensor:
    """Words, positions and segments, ``[B, T, E]``.

    Args:
        tables: of words, positions and segments.
        input_ids: ``[B, T]``.
        token_type_ids: ``[B, T]``; None is 0 everywhere.
        words: ``[B, T, E]`` in place of ``input_ids``.
    Raises:
        InvalidValueError: not one of ids and words, or more positions than the model has.
    """
    word_table, position_table, segment_table = tables
    if (input_ids is None) == (words is None):
        raise InvalidValueError(
            what="the input", faults=["give either `input_ids` or `inputs_embeds`"]
        )
    if words is None:
        words = word_table(input_ids)
    assert words is not None
    length, longest = words.shape[1], position_table.num_embeddings
    if length > longest:
        fault = (
            f"it has {length:,} positions, and the model {longest:,}: cut it, or build the "
            f"model with max_position_embeddings={length}"
        )
        raise InvalidValueError(what="the input", faults=[fault])
    positions = position_table.weight[:length]
    if token_type_ids is None:
        segments = segment_table.weight[0]
    else:
        segments = segment_table(token_type_ids)
    return words + positions + segments
