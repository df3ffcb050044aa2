"""Examples crossed with settings, and what every question does with such a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.errors import SourceTooSmallError
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import CONFIGS, EXAMPLES, MODELS, Example

Both = tuple[Example, str]
"""An example, and the name of its settings in `CONFIGS`."""

QUESTIONS: Final = ("size", "rule", "projections", "gradients", "materialized", "check")
"""What `pairwise` is asked for, each by one test."""


def pairwise(question: str) -> Sequence[Any]:
    """The cases of one question: each example with two of the settings.

    The two move on by one from example to example and from question to question. So all questions
    together ask each example with each of the settings, and each question meets all settings; the
    whole product would ask three times as much and find no other pair.
    """
    names, turn = list(CONFIGS), QUESTIONS.index(question)
    return [
        pytest.param((example, config), id=f"{example.name}-{config}")
        for number, example in enumerate(EXAMPLES)
        for config in (names[(turn + number + half) % len(names)] for half in (0, len(names) // 2))
    ]


def own_examples() -> list[Example]:
    """Examples for questions that one method of tables stands for, and so do not ask all: models,
    and layers whose weights reach torch in different ways."""
    names = ("linear", "lstm-deep", "attention", "weight-norm", "conv2d", "experts")
    return [e for e in EXAMPLES if e in MODELS or e.name in names]


def config_of(pair: Both) -> embshare.ShareConfig:
    """The settings of a case, with the patterns of its example."""
    example, config = pair
    return CONFIGS[config].model_copy(update={"include": example.include})


def shared(pair: Both, seed: int = 0) -> Any:
    """Build and share from one seed; skip where EPS has too few columns, and say so."""
    torch.manual_seed(seed)
    model = pair[0].build()
    try:
        plan = embshare.plan_sharing(model, config_of(pair), rules=pair[0].rules)
    except SourceTooSmallError as error:
        assert config_of(pair).method == "eps" and error.needs > error.has
        pytest.skip(str(error))
    return embshare.share_from_embedding(model, plan)


def output(model: Callable[..., Any], pair: Both) -> Tensor:
    """The scores that a model gives the example's inputs."""
    found: Any = model(**pair[0].inputs)
    scores: Tensor = found if isinstance(found, Tensor) else found.logits
    return scores


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the gradients that there are, by name."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def derived(model: nn.Module) -> list[Tensor]:
    """Copies of all derived weights."""
    bank = require_bank(model)
    return [bank.read(index).detach().clone() for index in range(len(bank.readers))]
