"""Support of families of models, one module for each family."""

if __name__ != "embshare.adapters":
    raise ImportError(
        f"this folder is the package embshare.adapters; it was imported as {__name__!r}"
    )
