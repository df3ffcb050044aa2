"""transformers is imported where ConvBERT is, and named where it is missing."""

import subprocess
import sys


def run(code: str) -> str:
    """What a fresh process prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_without_transformers_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["transformers"] = None
import embshare
try:
    import embshare.models.convbert
except embshare.EmbshareError as error:
    print(error)
"""
    assert run(code) == "`transformers` is not installed: pip install 'embshare[hf]'\n"
