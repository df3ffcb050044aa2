"""transformers is imported where DynaBERT is, and named where it is missing."""

import subprocess
import sys


def test_without_transformers_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["transformers"] = None
import embshare
try:
    import embshare.models.dynabert
except embshare.EmbshareError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "`transformers` is not installed: pip install 'embshare[hf]'\n"
