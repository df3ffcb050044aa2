"""Systems built on the core. Nothing here is imported by ``import embshare``."""
