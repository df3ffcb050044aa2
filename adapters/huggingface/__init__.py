"""Models of transformers by folder or hub name."""

from embshare.adapters.huggingface.building import build, has_weights

__all__ = ["build", "has_weights"]
