"""Models of torchvision and timm by name."""

from embshare.adapters.vision.building import build_timm, build_torchvision

__all__ = ["build_timm", "build_torchvision"]
