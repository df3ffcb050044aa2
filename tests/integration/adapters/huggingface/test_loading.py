"""Which models are known to be trained, and start from their weights by themselves."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    EncoderDecoderModel,
    PreTrainedModel,
)

import embshare
from embshare import ShareConfig, SharePlan, plan_sharing
from tests._support.huggingface_families import bert

pytestmark = pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say

Make = Callable[[Path], nn.Module]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bert")
    bert().save_pretrained(place)
    return place


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.head = inner, nn.Linear(16, 3)


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    found: nn.Module = torch.load(file, weights_only=False)
    return found


def materialized(model: nn.Module) -> nn.Module:
    return embshare.materialize(embshare.share_from_embedding(model))


def load(folder: Path) -> Any:
    return AutoModelForMaskedLM.from_pretrained(folder)


TRAINED: dict[str, Make] = {
    "loaded": load,
    "with a new head": AutoModelForSequenceClassification.from_pretrained,
    "a part": lambda folder: load(folder).bert,
    "a copy": lambda folder: copy.deepcopy(load(folder)),
    "cast": lambda folder: load(folder).half().float(),
    "pickled": lambda folder: pickled(load(folder)),
    "inside another": lambda folder: Wrapped(AutoModel.from_pretrained(folder)),
    "two in one": lambda f: EncoderDecoderModel.from_encoder_decoder_pretrained(str(f), str(f)),
    "materialized": lambda folder: materialized(load(folder)),
    "from a state dict": lambda folder: type(load(folder)).from_pretrained(
        None, config=load(folder).config, state_dict=load(folder).state_dict()
    ),
}
UNTRAINED: dict[str, Make] = {
    "new": lambda folder: bert(),
    "of a loaded configuration": lambda f: AutoModelForMaskedLM.from_config(load(f).config),
    "all layers replaced": lambda folder: renewed(load(folder)),
}


def renewed(model: Any) -> nn.Module:
    model.bert.encoder = type(model.bert.encoder)(model.config)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", TRAINED.values(), ids=TRAINED)
def test_a_trained_model_starts_from_its_weights(make: Make, folder: Path) -> None:
    model = make(folder)
    plan = plan_sharing(model)
    assert (plan.start, plan.config.init) == ("svd", "auto")
    assert "weights were loaded trained" in (plan.init_reason or "")
    assert {slot.gain for slot in plan.slots} == {1.0}
    shared = embshare.share_from_embedding(model, plan, inplace=False)
    info = embshare.summarize(shared)
    assert info.fit_error is not None and 0 < info.fit_error < 1
    assert all(row.fit_error is not None for row in info.layers)


@pytest.mark.parametrize("make", UNTRAINED.values(), ids=UNTRAINED)
def test_any_other_starts_at_random_and_says_so(make: Make, folder: Path) -> None:
    plan = plan_sharing(make(folder))
    assert plan.start == "random"
    assert "trained=True" in str(plan)
    shared = embshare.share_from_embedding(make(folder))
    assert embshare.summarize(shared).fit_error is None


def test_a_head_that_no_file_had_is_not_counted(folder: Path) -> None:
    plan = plan_sharing(AutoModelForSequenceClassification.from_pretrained(folder))
    every = sum(len(slot.weights) for slot in plan.slots)
    pooler_and_head = 2
    assert plan.init_reason == f"{every - pooler_and_head} of {every} weights were loaded trained"


def test_what_is_mostly_new_starts_at_random(folder: Path) -> None:
    model = Wrapped(AutoModel.from_pretrained(folder))
    model.head = nn.Sequential(*(nn.Linear(64, 64) for _ in range(9)))  # type: ignore[assignment]
    plan = plan_sharing(model)
    assert plan.start == "random"
    assert "only" in (plan.init_reason or "")
    assert plan_sharing(model, trained=True).start == "svd"


def test_loading_gives_what_it_gave(folder: Path) -> None:
    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, PreTrainedModel)
    assert not info["missing_keys"]
    assert isinstance(load(folder), PreTrainedModel)


def test_a_folder_of_a_shared_model_is_not_fitted_again(folder: Path, tmp_path: Path) -> None:
    shared = embshare.share_from_embedding(load(folder), ShareConfig(residual_rank=2))
    with torch.no_grad():
        for parameter in shared.parameters():
            parameter.add_(0.01)  # as a training does
    shared.save_pretrained(tmp_path)
    found = load(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(shared.parameters(), found.parameters(), strict=True)
    )
    assert embshare.summarize(found).fit_error == embshare.summarize(shared).fit_error


def test_a_plan_fits_a_model_of_unknown_origin_as_it_did_the_first(folder: Path) -> None:
    plan = SharePlan.from_json(plan_sharing(load(folder)).to_json())
    other = bert()
    other.load_state_dict(load(folder).state_dict())
    assert plan_sharing(other).start == "random"
    first = embshare.share_from_embedding(load(folder), plan)
    second = embshare.share_from_embedding(other, plan)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
