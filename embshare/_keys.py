"""Attributes in which a shared module keeps what torch shall not list."""

from __future__ import annotations

from typing import Final

__all__ = ["DTYPE", "HELD", "KEY", "PACKED", "ROOT"]

KEY: Final = "_embshare"
"""The `BankRef`, in layers with derived weights and in modules that hold such layers."""
HELD: Final = "_embshare_held"
"""Which of the bank's readers the layers of a module hold."""
ROOT: Final = "_embshare_root"
"""The `BankRef`, in the model that was shared."""
DTYPE: Final = "_embshare_dtype"
"""The dtype of a layer's derived weights, where it has been cast apart from its table."""
PACKED: Final = "_embshare_packed"
"""The flat weights that an LSTM layer hands to cuDNN, during a call."""
