"""Data, metrics and training: one package for each task."""

if __name__ != "embshare.tasks":
    raise ImportError(f"this folder is the package embshare.tasks; it was imported as {__name__!r}")
