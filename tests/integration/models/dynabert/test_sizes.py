"""Sizes as numbers; and a model at a size: what it computes and stores, and copies of it."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

import embshare
from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.models.dynabert import (
    Size,
    kept_heads,
    kept_layers,
    kept_neurons,
    matched_states,
    sub_networks,
)
from embshare.models.dynabert.elastic import ElasticLinear
from embshare.models.dynabert.sizes import ElasticLayers
from tests.integration.models.dynabert.examples import (
    KINDS,
    SETTINGS,
    SHARING,
    batch,
    model,
    output,
)

every_sharing = pytest.mark.parametrize("sharing", SHARING)
SMALL: dict[str, Any] = {"width": 0.5, "depth": 0.75}


# ---------------------------------------------------------------- numbers alone


def test_published_widths_of_the_base_model() -> None:
    widths = (1.0, 0.75, 0.5, 0.25)
    assert [kept_heads(12, width) for width in widths] == [12, 9, 6, 3]
    assert [kept_neurons(3072, 12, width) for width in widths] == [3072, 2304, 1536, 768]


def test_published_depths_of_the_base_model() -> None:
    assert kept_layers(12, 1.0) == tuple(range(12))
    assert kept_layers(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10)
    assert kept_layers(12, 0.5) == (0, 2, 4, 6, 8, 10)
    assert matched_states(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10, 12)
    assert matched_states(12, 0.5) == (0, 2, 4, 6, 8, 10, 12)


def test_halves_are_rounded_to_the_even_number_as_officially() -> None:
    assert [kept_heads(6, width) for width in (0.25, 0.75)] == [2, 4]  # of 1.5 and of 4.5
    assert [kept_neurons(24, 6, width) for width in (0.25, 0.75)] == [8, 16]
    assert kept_neurons(10, 4, 0.25) == 2  # cut down, not rounded
    assert kept_neurons(3, 12, 0.01) == 1  # never none
    assert kept_layers(5, 0.5) == (0, 2)  # of 2.5
    assert kept_layers(10, 0.3) == (0, 3, 6)


def test_all_twelve_in_the_official_order() -> None:
    found = [(size.depth, size.width) for size in sub_networks()]
    assert len(found) == len(set(found)) == 12
    assert found[:5] == [(1.0, 1.0), (1.0, 0.75), (1.0, 0.5), (1.0, 0.25), (0.75, 1.0)]
    assert found[-1] == (0.5, 0.25)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), True, "1"])
@pytest.mark.parametrize("name", ["width", "depth"])
def test_a_share_is_above_0_and_at_most_1(name: str, share: float) -> None:
    wrong: dict[str, Any] = {name: share}
    with pytest.raises(InvalidValueError) as caught:
        Size(**wrong)
    (fault,) = caught.value.faults
    assert fault.startswith(f"`{name}`: ") and fault.endswith(f"but is {share!r}")


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=2, depth=0, rounding="up")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3
    assert "'exact' or 'official', but is 'up'" in str(caught.value)


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=0.3).require_fit(heads=12, neurons=3072, layers=12)
    assert caught.value.faults == (
        "`width` must leave a whole number of the 12 heads, but 0.3 leaves 3.6 (the nearest that "
        "does is 0.3333; rounding='official' rounds)",
        "`width` must leave a whole number of the 3,072 feed-forward neurons, but 0.3 leaves "
        "921.6 (the nearest that does is 0.3001; rounding='official' rounds)",
    )


def test_a_depth_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        InvalidValueError, match=r"whole number of the 5 layers, but 0\.5 leaves 2\.5"
    ):
        Size(depth=0.5).require_fit(heads=4, neurons=8, layers=5)
    Size(depth=0.5, rounding="official").require_fit(heads=4, neurons=8, layers=5)


def test_rounding_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=0.1, depth=0.1, rounding="official").require_fit(heads=4, neurons=8, layers=4)
    assert caught.value.faults == (
        "`width` must leave some of the 4 heads, but 0.1 leaves none",
        "`depth` must leave some of the 4 layers, but 0.1 leaves none",
    )


def test_thirds_divide_in_floating_point() -> None:
    Size(width=1 / 3, depth=2 / 3).require_fit(heads=12, neurons=3072, layers=12)


# ---------------------------------------------------------------- a model at a size


def rewired(sharing: str) -> Any:
    made = model(sharing=sharing)
    return dynabert.rewire(made, dynabert.importance(made, [batch()]))


@torch.no_grad()
def logits(made: Any) -> torch.Tensor:
    return output(made(**batch(labels=False)))


@every_sharing
def test_what_is_stored_does_not_change(sharing: str) -> None:
    made = model(sharing=sharing)
    query = made.bert.encoder.layer[0].attention.self.query
    before = {name: id(parameter) for name, parameter in made.named_parameters()}
    state, whole, weight = dict(made.state_dict()), logits(made), query.weight.detach().clone()
    with dynabert.sized(made, **SMALL) as inside:
        assert inside is made
        assert {name: id(p) for name, p in made.named_parameters()} == before
        assert made.state_dict().keys() == state.keys()
        assert not torch.equal(logits(made), whole)
        assert isinstance(query, nn.Linear) and isinstance(query, ElasticLinear)
        assert torch.equal(query.weight, weight)
        assert "rows=8" in repr(query)
    assert torch.equal(logits(made), whole) and "rows" not in repr(query)
    kinds = {type(module) for module in made.modules()}
    assert not any(issubclass(kind, ElasticLinear | ElasticLayers) for kind in kinds)


def test_only_the_kept_part_gets_a_gradient() -> None:
    made = model()
    with dynabert.sized(made, width=0.25, depth=0.5):
        made(**batch()).loss.backward()
    first, second = made.bert.encoder.layer[:2]
    assert all(parameter.grad is None for parameter in second.parameters())
    rows = first.attention.self.query.weight.grad.abs().sum(1)
    assert (rows[:4] > 0).all() and (rows[4:] == 0).all()
    columns = first.output.dense.weight.grad.abs().sum(0)
    assert (columns[:6] > 0).all() and (columns[6:] == 0).all()
    assert (first.attention.output.dense.bias.grad != 0).all()  # never cut


def test_contexts_nest_and_end_after_an_error() -> None:
    made = model()
    with dynabert.sized(made, width=0.5):
        half = logits(made)
        with pytest.raises(RuntimeError, match="inside"), dynabert.sized(made, depth=0.5):
            assert dynabert.size_of(made) == dynabert.Size(depth=0.5)
            raise RuntimeError("inside")
        assert dynabert.size_of(made) == dynabert.Size(width=0.5)
        assert torch.equal(logits(made), half)
    assert dynabert.size_of(made) == dynabert.Size()


def test_a_size_that_does_not_fit_leaves_the_model_as_it_was() -> None:
    made = dynabert.set_size(model(), width=0.5)
    half = logits(made)
    with pytest.raises(InvalidValueError, match="whole number of the 4 heads"):
        dynabert.set_size(made, width=0.3)
    with pytest.raises(InvalidValueError, match="4 layers"), dynabert.sized(made, depth=0.6):
        pass
    assert dynabert.size_of(made) == dynabert.Size(width=0.5)
    assert torch.equal(logits(made), half)


def test_official_rounding_is_asked_for() -> None:
    made = model()
    with dynabert.sized(made, width=0.3, depth=0.6, rounding="official"):
        assert made.bert.encoder.layer[0].attention.self.query.rows == 4  # one head of 1.2
        assert made.bert.encoder.layer.kept == (0, 1)


@every_sharing
def test_copies_and_pickles_keep_the_size(sharing: str) -> None:
    made = dynabert.set_size(rewired(sharing), **SMALL)
    wanted = logits(made)
    assert torch.equal(logits(copy.deepcopy(made)), wanted)
    assert torch.equal(logits(pickle.loads(pickle.dumps(made))), wanted)
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    assert torch.equal(logits(torch.load(file, weights_only=False)), wanted)


@every_sharing
def test_it_follows_its_parameters(sharing: str) -> None:
    made = dynabert.set_size(rewired(sharing), **SMALL).train()
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = made(**batch()).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    whole = dynabert.extract(made, **SMALL)
    assert torch.allclose(logits(whole.eval()), logits(made.eval()), atol=1e-5)


@every_sharing
def test_a_folder_keeps_the_size_and_the_order(sharing: str, tmp_path: Path) -> None:
    made = dynabert.set_size(rewired(sharing), **SMALL)
    made.save_pretrained(tmp_path)
    found = type(made).from_pretrained(tmp_path).eval()
    assert dynabert.size_of(found) == dynabert.Size()  # transformers knows nothing of sizes
    assert dynabert.restore(found) is found
    assert dynabert.size_of(found) == dynabert.Size(**SMALL)
    assert torch.allclose(logits(found), logits(made), atol=1e-6)
    with dynabert.sized(found, width=0.25), dynabert.sized(made, width=0.25):
        assert torch.allclose(logits(found), logits(made), atol=1e-6)


def test_the_full_size_leaves_no_trace() -> None:
    made = model()
    before = made.config.to_dict()
    dynabert.set_size(dynabert.set_size(made, **SMALL))
    assert made.config.to_dict() == before
    assert dynabert.restore(made) is made and dynabert.size_of(made) == dynabert.Size()


@pytest.mark.parametrize("written", [{"width": 2.0}, {"height": 1.0}, "small", {"width": 0.3}])
def test_a_size_in_a_configuration_is_checked(written: Any) -> None:
    made = model()
    made.config.dynabert_size = written
    with pytest.raises(InvalidValueError):
        dynabert.restore(made)
    assert dynabert.size_of(made) == dynabert.Size()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("sharing", ["plain", "tied"])
def test_it_compiles_and_exports(sharing: str) -> None:
    made = dynabert.set_size(rewired(sharing), **SMALL)
    inputs = batch(labels=False)
    compiled: Any = torch.compile(made, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(**inputs).logits, logits(made), atol=1e-6)
    exported: Any = torch.export.export(made, (), kwargs=inputs).module()
    assert torch.allclose(exported(**inputs).logits, logits(made), atol=1e-6)


@pytest.mark.parametrize("sharing", ["plain", "tied"])
def test_layers_may_be_run_again_in_the_backward(sharing: str) -> None:
    gradients = []
    for reentrant in (None, False, True):
        made = rewired(sharing).train()
        if reentrant is not None:
            made.activation_checkpointing_enable({"use_reentrant": reentrant})
            made.enable_input_require_grads()
        with dynabert.sized(made, **SMALL):
            made(**batch()).loss.backward()
        gradients.append({n: p.grad for n, p in made.named_parameters() if p.grad is not None})
    for other in gradients[1:]:
        assert gradients[0].keys() == other.keys()
        for name, gradient in gradients[0].items():
            assert torch.allclose(gradient, other[name], atol=1e-6), name


def test_autocast_and_lower_precision() -> None:
    made = rewired("tied")
    with dynabert.sized(made, **SMALL):
        wanted = logits(made)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(logits(made).float(), wanted, atol=0.3)
        assert torch.allclose(logits(made.bfloat16()).float(), wanted, atol=0.3)


def test_a_model_may_be_shared_or_materialized_while_it_is_small() -> None:
    made = dynabert.set_size(model(), **SMALL)
    embshare.share_from_embedding(made, embshare.ShareConfig())
    small = logits(made)
    again = embshare.materialize(made)
    assert dynabert.size_of(again) == dynabert.size_of(made) == dynabert.Size(**SMALL)
    assert torch.allclose(logits(again), small, atol=1e-6)
    assert not torch.allclose(logits(dynabert.set_size(made)), small, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head(kind: str) -> None:
    made, inputs = model(kind), batch(labels=False)
    made.set_attn_implementation("eager")
    whole = output(made(**inputs))
    with dynabert.sized(made, **SMALL):
        small = made(**inputs, output_hidden_states=True, output_attentions=True)
    assert output(small).shape == whole.shape and not torch.equal(output(small), whole)
    assert len(small.hidden_states) == 4 and len(small.attentions) == 3
    assert small.attentions[0].shape[1] == 2


def without(part: str) -> nn.Module:
    made: nn.Module = model()
    delattr(made.get_submodule("bert.encoder.layer.2"), part)
    return made


def with_query(layer: nn.Module) -> nn.Module:
    made: nn.Module = model()
    made.get_submodule("bert.encoder.layer.2.attention.self").add_module("query", layer)
    return made


def decoder() -> nn.Module:
    settings: dict[str, Any] = SETTINGS | {"is_decoder": True, "add_cross_attention": True}
    return BertModel(BertConfig(**settings))


class Adapted(nn.Linear):
    """A Linear layer that may compute something else."""


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (lambda: nn.Linear(3, 3), "it has no list `encoder.layer`"),
        (lambda: without("attention"), "a layer has no `attention.self.query`"),
        (lambda: without("intermediate"), "a layer has no `intermediate.dense`"),
        (
            lambda: with_query(nn.Identity()),
            "`attention.self.query` is a torch.nn.modules.linear.Identity and no nn.Linear",
        ),
        (lambda: with_query(Adapted(16, 16)), "plain nn.Linear layers to be cut, but one is Adap"),
        (decoder, "its layers have cross-attention"),
    ],
)
def test_other_models_are_refused(broken: Any, finding: str) -> None:
    made = broken()
    with pytest.raises(InvalidValueError) as caught:
        dynabert.set_size(made, width=0.5)
    assert finding in caught.value.faults[0]
    assert not any(isinstance(module, ElasticLinear | ElasticLayers) for module in made.modules())
