"""Writes the page of what can go wrong from the table that `embshare.check` finds it by.

python docs/troubleshooting.py
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final, cast

from embshare.checks.kinds import KINDS, SUBJECTS, Kind

PAGE: Final = Path(__file__).resolve().parent / "how-to" / "troubleshooting.md"

EXAMPLE: Final = """import torch
from torch import nn

import embshare

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 8), nn.Linear(8, 4))
model = embshare.share_from_embedding(model)
optimizer = torch.optim.AdamW(model[0].parameters(recurse=False))
print(embshare.check(model, optimizer))
"""
"""A model whose optimizer holds its table alone."""

HEAD: Final = """# Troubleshooting

What can be wrong with a shared model, or surprising about it, by what you see. A living model is
looked at by [`embshare.check`](../reference/look.md#embshare.check), which runs and changes
nothing:

```python
{code}```

```text
{example}
```

A saved one is looked at by `embshare check FOLDER`, which exits with 0 where nothing is found, with
1 where something is, and with 2 where the folder cannot be read. What is marked *in folders* is
seen in a folder of `embshare.save` without building the model; a folder of `save_pretrained` is
loaded, and all of it is looked at.
"""

TAIL: Final = """
## What cannot be seen afterwards

* A hook that was registered on a derived weight, or its `.grad`: the weight is another tensor at
  each call. You are warned when it is done (`UnusedHookWarning`). Look at gradients of the table
  and of the bank.
* A write through `.data` inside of [`embshare.cached`](../reference/look.md#embshare.cached):
  weights from before it are used until the block ends.
* Whether an optimizer that nobody names holds the right parameters: hand it over, as above.
"""
"""What there is no finding of."""


def wrapped(text: str) -> str:
    """The page at the width of all others."""
    spec = importlib.util.spec_from_file_location("width", PAGE.parents[1] / "width.py")
    assert spec and spec.loader
    width = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(width)
    return cast("Callable[[str], str]", width.wrapped)(text)


def page() -> str:
    """The whole page."""
    parts = [HEAD.format(code=EXAMPLE, example=example())]
    for subject, heading in SUBJECTS.items():
        parts.append(f"\n## {heading}\n")
        parts += (entry(kind) for kind in KINDS.values() if kind.subject == subject)
    return wrapped("".join([*parts, TAIL]))


def entry(kind: Kind) -> str:
    """One kind: its symptom is the heading."""
    where = ", in folders" if kind.folder else ""
    return (
        f"\n### {kind.symptom}\n\n{kind.consequence}\n\n**Hint:** {kind.hint}\n\n"
        f"Found as `{kind.name}`{where}.\n"
    )


def example() -> str:
    """What is printed of a model whose optimizer holds its table alone."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(EXAMPLE, {})
    return out.getvalue().rstrip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
