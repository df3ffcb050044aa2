"""The command line: each command is one function of the library."""

from embshare.cli.application import app, main

__all__ = ["app", "main"]
