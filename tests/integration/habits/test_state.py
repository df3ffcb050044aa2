"""State dicts: whatever carries one from model to model brings equal weights, or is refused."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

import embshare
from embshare import ShareConfig
from embshare.errors import PartStateWarning, StateMismatchError
from tests._support.habit_models import CONFIGS, IDS, LM, equal, out, shared, train, weights
from tests._support.layer_examples import bert

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
OTHERS = (
    ShareConfig(anchor=4.0),
    ShareConfig(order="column"),
    ShareConfig(tie="none"),
    ShareConfig(factor=5),
    ShareConfig(gain="channel"),
)


def pair(config: ShareConfig | None = None) -> tuple[Any, Any]:
    """A trained model, and one from another seed, whose gains differ."""
    first, second = train(shared(config)), shared(config, seed=1)
    assert not equal(first, second)
    return first, second


@ALL
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_brings_equal_weights(config: ShareConfig, assign: bool) -> None:
    first, second = pair(config)
    state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert "All keys matched" in str(second.load_state_dict(state, assign=assign))
    assert equal(first, second)
    train(first), train(second)
    assert equal(first, second)


@pytest.mark.parametrize("config", OTHERS, ids=str)
@pytest.mark.parametrize("strict", [True, False])
def test_a_state_of_another_layout_is_refused_before_anything_is_loaded(
    config: ShareConfig, strict: bool
) -> None:
    model, state = shared(config), shared(seed=1).state_dict()
    before = out(model)
    with pytest.raises(StateMismatchError, match=r"shared like this one .*embshare\.load"):
        model.load_state_dict(state, strict=strict)
    assert torch.equal(out(model), before)


def test_a_parent_that_loads_in_its_constructor_is_refused_as_well() -> None:
    state = nn.ModuleDict({"net": shared(ShareConfig(anchor=0.0, order="row"))}).state_dict()
    parent = nn.ModuleDict({"net": shared(ShareConfig(anchor=4.0, order="column"))})
    with pytest.raises(StateMismatchError, match="anchor=4"):
        parent.load_state_dict(state)


@ALL
def test_a_file_of_a_state_dict_is_read_without_pickle(config: ShareConfig) -> None:
    first, second = pair(config)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert equal(first, second)


def test_a_whole_model_saved_by_torch_follows_its_own_table(tmp_path: Path) -> None:
    model = train(shared())
    torch.save(model, tmp_path / "model.pt")
    twin = torch.load(tmp_path / "model.pt", weights_only=False)
    assert equal(model, twin)
    train(twin)
    assert not equal(model, twin)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=5)], ids=str)
def test_safetensors_writes_and_reads_a_model(config: ShareConfig, tmp_path: Path) -> None:
    first, second = pair(config)
    safetensors.torch.save_model(first, str(tmp_path / "m.safetensors"))
    safetensors.torch.load_model(second, str(tmp_path / "m.safetensors"))
    assert equal(first, second)


@ALL
def test_an_empty_model_on_meta_is_filled(config: ShareConfig) -> None:
    first = train(shared(config))
    with torch.device("meta"):
        second = shared(config)
    second = second.to_empty(device="cpu")
    second.load_state_dict(first.state_dict())
    assert equal(first, second)


@ALL
def test_an_empty_model_on_meta_is_assigned(config: ShareConfig) -> None:
    first = train(shared(config))
    with torch.device("meta"):
        second = shared(config)
    second.load_state_dict(first.state_dict(), assign=True)
    assert equal(first, second)


@ALL
def test_stacked_states_are_run_by_vmap(config: ShareConfig) -> None:
    models = [shared(config, seed=seed) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    with torch.device("meta"):
        base = shared(config)

    def run(p: Any, b: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(base, (p, b), (IDS,))
        return found

    found = torch.vmap(run)(parameters, buffers)
    for model, logits in zip(models, found, strict=True):
        torch.testing.assert_close(logits, out(model))


def test_a_partial_state_loads_what_it_has() -> None:
    first, second = pair()
    state = {n: t for n, t in first.state_dict().items() if not n.startswith("head.")}
    found = second.load_state_dict(state, strict=False)
    assert found.missing_keys == ["head.bias"] and not found.unexpected_keys
    for name, weight in weights(first).items():
        assert torch.equal(weight, weights(second)[name])
    assert not torch.equal(first.head.bias, second.head.bias)


def test_a_dense_state_is_refused_by_its_keys_and_a_shared_one_by_a_dense_model() -> None:
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*embshare_bank"):
        shared().load_state_dict(LM().state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*enc\.0\.weight"):
        LM().load_state_dict(shared().state_dict())


@pytest.mark.parametrize("part", ["enc", "enc.0", "head"])
def test_a_parts_state_dict_does_not_pass_for_its_weights(part: str) -> None:
    """A pretrained backbone's, say, which holds biases alone."""
    first, second = pair()
    names = {"enc": ["0.weight", "2.weight"]}.get(part, ["weight"])
    state = first.get_submodule(part).state_dict()
    with (
        pytest.warns(PartStateWarning, match=r"a part .*whole model"),
        pytest.raises(RuntimeError, match=rf"Missing key\(s\).*{names[0]}"),
    ):
        second.get_submodule(part).load_state_dict(state)
    with pytest.warns(PartStateWarning):
        found = second.get_submodule(part).load_state_dict(state, strict=False)
    assert found.missing_keys == names


def test_a_loader_may_fill_a_layer_with_what_it_stores() -> None:
    """transformers 4 gives each layer one tensor at a time; what is missing is returned still."""
    first, second = pair()
    state = {"bias": first.enc[0].bias.detach()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = second.enc[0].load_state_dict(state, strict=False, assign=True)
    assert found.missing_keys == ["weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*weight"):
        second.enc[0].load_state_dict(state, assign=True)


def test_a_part_is_transferred_between_plain_models() -> None:
    first, second = pair()
    plain = embshare.materialize(first.enc)
    embshare.materialize(second, inplace=True).enc.load_state_dict(plain.state_dict())
    assert torch.equal(second.enc[0].weight, first.enc[0].weight)


def test_a_prefix_of_ddp_is_consumed() -> None:
    first, second = pair()
    state: dict[str, Any] = {f"module.{name}": t for name, t in first.state_dict().items()}
    torch.nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    second.load_state_dict(state)
    assert equal(first, second)


def test_a_compiled_models_state_loads_into_a_plain_one() -> None:
    first, second = pair()
    compiled: Any = torch.compile(first)
    state = compiled.state_dict()
    second.load_state_dict({n.removeprefix("_orig_mod."): t for n, t in state.items()})
    assert equal(first, second)
    again: Any = torch.compile(second)
    again.load_state_dict(state)


@ALL
def test_a_moving_average_of_state_dicts_reads_its_own_average(config: ShareConfig) -> None:
    model = train(shared(config))
    average = copy.deepcopy(model)
    tables = [model.embed._parameters["weight"].detach().clone()]
    for _ in range(3):
        train(model, 1)
        tables.append(model.embed._parameters["weight"].detach().clone())
        with torch.no_grad():  # timm's ModelEmaV2
            for kept, new in zip(
                average.state_dict().values(), model.state_dict().values(), strict=True
            ):
                kept.copy_(kept * 0.9 + 0.1 * new)
    wanted = tables[0]
    for table in tables[1:]:
        wanted = wanted * 0.9 + 0.1 * table
    torch.testing.assert_close(average.embed._parameters["weight"].detach(), wanted)
    again = shared(config, seed=1)
    again.load_state_dict(average.state_dict())
    assert equal(again, average) and not equal(average, model)


@ALL
@pytest.mark.parametrize("buffers", [False, True])
def test_torchs_averaged_model_reads_its_own_average(config: ShareConfig, buffers: bool) -> None:
    model = train(shared(config))
    average = AveragedModel(model, use_buffers=buffers)
    for _ in range(2):
        average.update_parameters(train(model, 1))
    update_bn([IDS], average)
    again = shared(config, seed=1)
    again.load_state_dict(average.module.state_dict())
    assert equal(again, average.module) and not equal(average.module, model)


@ALL
def test_a_soup_of_two_runs_is_derived_from_what_it_holds(config: ShareConfig) -> None:
    first, second = train(shared(config)), shared(config)
    train(second, 5)
    mean = {n: (t + second.state_dict()[n]) / 2 for n, t in first.state_dict().items()}
    soup = shared(config, seed=1)
    soup.load_state_dict(mean)
    bank = soup.embshare_bank
    table = soup.embed._parameters["weight"]
    assert torch.equal(
        table, (first.embed._parameters["weight"] + second.embed._parameters["weight"]) / 2
    )
    assert bank.plan.slots[0].gain == pytest.approx(first.embshare_bank.plan.slots[0].gain)
    assert out(soup).isfinite().all()


def test_a_soup_of_two_seeds_has_the_mean_of_their_gains() -> None:
    first, second = shared(), shared(seed=1)
    gains = [m.embshare_bank.plan.slots[0].gain for m in (first, second)]
    assert gains[0] != gains[1]
    mean = {n: (t + second.state_dict()[n]) / 2 for n, t in first.state_dict().items()}
    soup = shared(seed=2)
    soup.load_state_dict(mean)
    assert soup.embshare_bank.plan.slots[0].gain == pytest.approx(sum(gains) / 2)


def test_a_model_is_cast_and_comes_back_with_the_same_gains() -> None:
    first = train(shared())
    half = copy.deepcopy(first).bfloat16()
    second = shared(seed=1).bfloat16()
    second.load_state_dict(half.state_dict())
    assert equal(half, second)
    gains = [m.embshare_bank.plan.slots[0].gain for m in (first, second)]
    assert gains[0] == pytest.approx(gains[1], rel=1e-6)  # not rounded to bfloat16


def test_ties_outlive_a_state_that_is_assigned(tmp_path: Path) -> None:
    first, second = (embshare.share_from_embedding(bert()) for _ in range(2))
    second.load_state_dict(first.state_dict(), assign=True)
    found: Any = second
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight
    assert found.cls.predictions.decoder.bias is found.cls.predictions.bias
    assert embshare.check(found).kinds == embshare.check(first).kinds
    embshare.save(nn.ModuleDict({"model": second}), tmp_path)
    plain = embshare.materialize(found)
    assert not plain._load_state_dict_post_hooks
