"""Models of torchvision and timm by name, and tables to share them from."""

from embshare.adapters.vision.building import build_timm, build_torchvision
from embshare.adapters.vision.tables import add_table, share_vision, table_of, with_tables

__all__ = [
    "add_table",
    "build_timm",
    "build_torchvision",
    "share_vision",
    "table_of",
    "with_tables",
]
