"""Models of fairseq: a ``--user-dir`` plug-in, layer kinds, and architectures by name."""

from pathlib import Path
from typing import Final

__all__ = ["PLUGIN"]

PLUGIN: Final = Path(__file__).parent / "plugin" / "embshare_fairseq"
"""The folder for ``--user-dir``."""
