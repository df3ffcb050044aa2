"""Compute a model's hidden weights from its own embedding table, and store the table alone."""

from embshare.caching import cached
from embshare.config import ShareConfig
from embshare.errors import EmbshareError
from embshare.plan import SharePlan, Slot, Source
from embshare.planning import plan_sharing
from embshare.sharing import share_from_embedding

__all__ = [
    "EmbshareError",
    "ShareConfig",
    "SharePlan",
    "Slot",
    "Source",
    "cached",
    "plan_sharing",
    "share_from_embedding",
]

__version__ = "0.1.0"
