"""Models of transformers: by folder or hub name, and kept in folders that transformers reads."""

from embshare.adapters.huggingface.beside import model_folder
from embshare.adapters.huggingface.building import build, has_weights
from embshare.adapters.huggingface.exporting import export, is_pretrained

__all__ = ["build", "export", "has_weights", "is_pretrained", "model_folder"]
