"""Options of fairseq become a config or a plan; every contradiction is named. Needs no fairseq."""

from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.adapters.fairseq.options import names, read_options
from embshare.adapters.fairseq.pinning import attach_plan, keep_plan
from embshare.errors import InvalidValueError, PlanMismatchError
from embshare.plan.values import SharePlan


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed_tokens(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(hidden)


def plan_of_seed(seed: int, **fields: Any) -> SharePlan:
    torch.manual_seed(seed)
    return embshare.plan_sharing(Tagger(), embshare.ShareConfig(**fields))


def test_every_field_of_a_config_has_an_option() -> None:
    fields = {name.removeprefix("embshare_") for name in names()} - {"embshare", "plan"}
    assert fields == set(embshare.ShareConfig.model_fields) - {"method"}


def test_settings_are_a_config() -> None:
    cfg = Namespace(
        embshare="veps",
        embshare_factor="16",
        embshare_tie="cycle:2",
        embshare_include="encoder.*,*.fc1.weight",
        embshare_source="encoder.*=encoder.embed_tokens,*=decoder.embed_tokens",
        embshare_column_bias=True,
        embshare_anchor="3",
        embshare_gain=None,
    )
    assert read_options(cfg) == embshare.ShareConfig(
        factor=16,
        tie="cycle:2",
        include=("encoder.*", "*.fc1.weight"),
        source={"encoder.*": "encoder.embed_tokens", "*": "decoder.embed_tokens"},
        column_bias=True,
        anchor=3.0,
    )
    assert read_options(Namespace(arch="lstm")) is None
    assert read_options({"embshare": "eps"}) == embshare.ShareConfig(method="eps")


def test_a_plan_is_read_from_a_file_or_is_the_text_itself(tmp_path: Path) -> None:
    plan = plan_of_seed(0, tie="none")
    (tmp_path / "plan.json").write_text(plan.to_json())
    for text in (str(tmp_path / "plan.json"), plan.model_dump_json()):
        assert read_options({"embshare_plan": text}) == plan
        assert read_options({"embshare_plan": text, "embshare": "veps", "embshare_tie": "none"})


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"embshare_tie": "all", "embshare_column_bias": True}, "--embshare-tie needs --embshare"),
        ({"embshare_source": "a=b,c", "embshare": "veps"}, "`source`: must be NAME or GLOB=NAME"),
        ({"embshare": "veps", "quant_noise_scalar": 0.5}, "--quant-noise-scalar rewrites weights"),
        ({"embshare_factor": "0", "embshare": "veps"}, "`factor`: Input should be greater than"),
        ({"embshare_plan": "{}"}, "`config`: Field required"),
        ({"embshare_plan": "/nowhere/plan.json"}, "cannot be read (No such file or directory)"),
    ],
)
def test_faults(given: dict[str, object], fault: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        read_options(given)
    assert fault in str(error.value)


def test_settings_that_contradict_the_plan_are_listed() -> None:
    plan = plan_of_seed(0).model_dump_json()
    given = {"embshare_plan": plan, "embshare": "veps", "embshare_tie": "none"}
    with pytest.raises(InvalidValueError, match="`tie` is 'none' in the options and 'all' in the"):
        read_options(given)
    with pytest.raises(InvalidValueError, match="--embshare-tie is said by the plan already"):
        read_options({"embshare_plan": plan, "embshare_tie": "none"})


def shared_and_kept(seed: int, cfg: Namespace, **fields: Any) -> Tagger:
    torch.manual_seed(seed)
    model = embshare.share_from_embedding(Tagger(), embshare.ShareConfig(**fields))
    keep_plan(model, cfg)
    return model


def checkpoint(model: nn.Module, cfg: Namespace) -> dict[str, object]:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return {"cfg": {"model": cfg}, "model": state, "extra_state": {"ema": OrderedDict(state)}}


def test_weights_bring_their_plan_along() -> None:
    mine, theirs = Namespace(), Namespace()
    source, target = shared_and_kept(1, mine), shared_and_kept(2, theirs)
    assert mine.embshare_plan != theirs.embshare_plan  # the gains of another start
    found = checkpoint(source, mine)
    attach_plan(found)
    tokens = torch.arange(6)
    for state in (found["model"], found["extra_state"]["ema"]):  # type: ignore[index]
        target = shared_and_kept(2, theirs)
        assert isinstance(state, OrderedDict)
        target.load_state_dict(state)
        assert torch.equal(target(tokens), source(tokens))
        assert theirs.embshare_plan == mine.embshare_plan  # what the next checkpoint will say


def test_weights_of_other_columns_are_refused() -> None:
    mine = Namespace()
    found = checkpoint(shared_and_kept(1, mine, tie="none"), mine)
    attach_plan(found)
    with pytest.raises(
        PlanMismatchError, match=r"`config\.tie` must be 'none', but is 'all'"
    ) as got:
        shared_and_kept(2, Namespace()).load_state_dict(found["model"])  # type: ignore[arg-type]
    assert "give the --embshare options that they were trained with" in got.value.__notes__[0]


def test_a_dense_checkpoint_is_left_alone() -> None:
    found = {"cfg": {"model": Namespace()}, "model": Tagger().state_dict(), "extra_state": None}
    attach_plan(found)
    assert "embshare_plan" not in found["model"]._metadata[""]  # type: ignore[union-attr]
