"""Attention over heads, in the precision that is fast on the device."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["attend"]

SHORT: Final = 256
"""Keys. Below it, PyTorch's half-precision attention on CPUs is several times slower than its
single-precision one, since it packs a tile anew for every head; from about 512 it is faster.
`benchmarks/cpu_attention.py` measures it."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`; short rows of halves on CPUs in float32.

    Args:
        query: ``[B, H, T, S]``: rows, heads, positions, width of a head.
        key: ``[B, H, P, S]``.
        value: ``[B, H, P, S]``.
        mask: to ``[B, H, T, P]``: true where a query may look, or numbers that are added to scores.
        is_causal: position ``t`` sees positions up to ``t``, in place of a mask.
        dropout: the part of the attention that is dropped.
        scale: of the scores; None is ``S ** -0.5``.
    Returns:
        ``[B, H, T, S]``, of the type of `value`.
    """
    options: dict[str, Any] = {"dropout_p": dropout, "is_causal": is_causal, "scale": scale}
    if key.shape[-2] >= SHORT or not _half_on_cpu(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        heads = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=mask, **options
        )
    return heads.to(value.dtype)


def _half_on_cpu(query: Tensor) -> bool:
    if query.device.type != "cpu":
        return False
    if query.dtype is torch.float32:
        return torch.is_autocast_enabled("cpu")
    return query.dtype in {torch.bfloat16, torch.float16}  # autocast leaves doubles alone
