"""Compute a model's hidden weights from its own embedding table, and store the table alone."""

from embshare._version import __version__
from embshare.caching import cached, keep, release
from embshare.check import Finding, Findings, check
from embshare.checkpoint import load, save
from embshare.config import ShareConfig
from embshare.errors import EmbshareError
from embshare.freezing import freeze, unfreeze
from embshare.fsdp import fsdp_groups
from embshare.integrations import watch
from embshare.materialize import materialize
from embshare.optim import parameter_groups
from embshare.plan.planner import plan_sharing
from embshare.plan.slots import Slot, Source
from embshare.plan.unmatched import bare_weights
from embshare.plan.values import SharePlan
from embshare.sharing import share_from_embedding
from embshare.summary import Summary, summarize

__all__ = [
    "EmbshareError",
    "Finding",
    "Findings",
    "ShareConfig",
    "SharePlan",
    "Slot",
    "Source",
    "Summary",
    "__version__",
    "bare_weights",
    "cached",
    "check",
    "freeze",
    "fsdp_groups",
    "keep",
    "load",
    "materialize",
    "parameter_groups",
    "plan_sharing",
    "release",
    "save",
    "share_from_embedding",
    "summarize",
    "unfreeze",
]

watch()  # the one thing that importing embshare does besides defining names
del watch
