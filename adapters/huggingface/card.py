"""A model card: what a folder of a shared model is, and how it is read."""

from __future__ import annotations

from torch import nn

from embshare.config import ShareConfig
from embshare.runtime.bank import require_bank
from embshare.summary import summarize

__all__ = ["card"]

CARD = """\
---
library_name: transformers
tags:
- embshare
- parameter-sharing
{base}---

# {title}

The hidden weights of this model are not stored. They are computed from its own embedding table by
embshare. Stored are the table, a projection, biases, norms.

```python
import embshare  # the one line more
from transformers import {kind}

model = {kind}.from_pretrained({folder!r})
```

It is then an ordinary model of transformers, which can be trained on and saved again, and
`embshare.materialize(model)` gives a plain one, as large as the dense model was. Without the
first line transformers refuses the folder.

{state}

| | dense | here |
| --- | ---: | ---: |
| stored parameters | {dense:,} | {stored:,} |
| bytes of them | {dense_bytes:,} | {bytes:,} |
| parameters that the layers compute with | {dense:,} | {read:,} |

Sharing cuts storage, not arithmetic: a step takes as many multiplications as in the dense model.

Settings: `{settings}`. The whole plan is in `config.json`.
"""

RANDOM = (
    "**Not trained yet.** The shared weights start at random: this is where a training begins, "
    "not where it ends."
)
FITTED = (
    "The shared weights were fitted to those of the dense model. They are not equal to them: "
    "measure before use, and train."
)


def card(model: nn.Module, *, name: str, folder: str, base: str | None = None) -> str:
    """A model card as Markdown.

    Args:
        model: shared, as it is saved.
        name: name of the original model, for the title.
        folder: where it will be found, for the example.
        base: the same as a name on the hub, where it is one.
    """
    summary, plan = summarize(model), require_bank(model).plan
    return CARD.format(
        base=f"base_model: {base}\n" if base else "",
        title=f"{name}, shared",
        kind=type(model).__name__,
        folder=folder,
        state=RANDOM if plan.start == "random" else FITTED,
        dense=summary.stored_before,
        dense_bytes=summary.bytes_before,
        stored=summary.stored,
        bytes=summary.bytes,
        read=summary.read,
        settings=_settings(plan.config),
    )


def _settings(config: ShareConfig) -> str:
    """The fields that were set."""
    fields = config.model_dump(exclude_defaults=True)
    return f"ShareConfig({', '.join(f'{name}={value!r}' for name, value in fields.items())})"
