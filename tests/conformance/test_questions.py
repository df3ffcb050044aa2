"""The same questions of every layer kind and model."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import embshare
from embshare.errors import StaleCacheWarning
from embshare.plan.layer_rules import RULES
from embshare.runtime.bank import require_bank
from embshare.runtime.loading import bank_name
from tests._support.layer_examples import EXAMPLES, LAYERS, MODELS
from tests._support.reference import reference_columns, reference_weight
from tests.conformance.cases import (
    Both,
    derived,
    gradients,
    output,
    own_examples,
    pairwise,
    shared,
)

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

VEPS = [pytest.param((e, "veps"), id=e.name) for e in EXAMPLES]
ALL = VEPS + [pytest.param((e, "own"), id=f"{e.name}-own") for e in own_examples()]
SOME = [
    pytest.param((e, c), id=f"{e.name}-{c}")
    for e in EXAMPLES
    for c in ("veps", "factor", "relaxed", "own")
    if e in MODELS or e.name in ("linear", "lstm-deep", "attention", "weight-norm", "conv2d")
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        yield


def test_every_rule_has_an_example() -> None:
    assert {example.kind for example in LAYERS if example.kind is not None} == set(RULES)


@pytest.mark.parametrize("pair", pairwise("size"))
def test_parameters_are_gone_and_the_file_is_smaller(pair: Both) -> None:
    torch.manual_seed(0)
    dense = sum(p.numel() for p in pair[0].build().parameters())
    model = shared(pair)
    summary = embshare.summarize(model)
    names = dict(model.named_parameters())
    weights = set(require_bank(model).plan.weights())
    assert not weights & set(names) and not weights & set(model.state_dict())
    assert summary.stored == sum(p.numel() for p in names.values())
    assert summary.stored_before == dense
    file = safetensors.torch.save(model.state_dict())
    assert summary.bytes <= len(file) <= summary.bytes + 20_000


@pytest.mark.parametrize("pair", pairwise("rule"))
def test_weights_are_what_the_rule_says(pair: Both) -> None:
    torch.manual_seed(0)
    dense = dict(pair[0].build().named_parameters(remove_duplicate=False))
    model = shared(pair)  # a residual is zero at the start, and a learned gain is one
    bank = require_bank(model)
    for index, reader in enumerate(bank.readers):
        slot = bank.plan.slots[reader.slot]
        if slot.source is None:  # the first layer's start, and the parameter itself
            block = model.get_parameter(f"{bank_name(model)}.blocks.{reader.slot}")
            assert torch.equal(block, dense[slot.weights[0]])
            assert bank.relaxed or bank.read(index).data_ptr() == block.data_ptr()
            torch.testing.assert_close(bank.read(index), block)
    for number, source in enumerate(bank.columns):
        columns = reference_columns(bank.plan, number, *source.inputs())
        for index, reader in enumerate(bank.readers):
            slot = bank.plan.slots[reader.slot]
            if slot.source == number:
                wanted = reference_weight(slot, columns, source.source.rows, bank.plan.config.order)
                torch.testing.assert_close(bank.read(index), wanted)


@pytest.mark.parametrize("pair", pairwise("projections"))
def test_one_projection_per_outermost_call(pair: Both) -> None:
    model = shared(pair)
    bank = require_bank(model)
    for mode in (True, False):
        model.train(mode)
        bank.evaluations = 0
        output(model, pair)
        assert bank.evaluations == len(bank.plan.sources)
        assert all(n not in m.__dict__ for r in bank.readers for m, n in r.places), (
            "nothing is kept"
        )


@pytest.mark.parametrize("pair", ALL)
def test_a_layer_keeps_its_class_and_its_weights_their_shape(pair: Both) -> None:
    torch.manual_seed(0)
    dense = dict(pair[0].build().named_modules())
    model = shared(pair)
    for name, module in model.named_modules():
        if name in dense and not torch.nn.utils.parametrize.is_parametrized(module):
            assert isinstance(module, type(dense[name]))
    for reader in require_bank(model).readers:
        for layer, name in reader.places:
            assert (
                tuple(getattr(layer, name).shape)
                == require_bank(model).plan.slots[reader.slot].shape
            )


def optimizer_step(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def write_in_place(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))


def write_by_assignment(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)


def load_values(model: nn.Module) -> None:
    model.load_state_dict({k: v + 0.1 * torch.randn_like(v) if v.is_floating_point() else v
                           for k, v in model.state_dict().items()})  # fmt: skip


@pytest.mark.parametrize(
    "write", [optimizer_step, write_in_place, write_by_assignment, load_values]
)
@pytest.mark.parametrize("pair", ALL)
def test_weights_are_current_after_any_write(
    pair: Both, write: Callable[[nn.Module], None]
) -> None:
    model = shared(pair).eval()
    assert all(hasattr(layer, n) for r in require_bank(model).readers for layer, n in r.places)
    before, weights = output(model, pair), derived(model)
    write(model)
    assert not torch.equal(output(model, pair), before)
    assert not any(torch.equal(a, b) for a, b in zip(derived(model), weights, strict=True))
    fresh = copy.deepcopy(model)
    torch.testing.assert_close(output(fresh, pair), output(model, pair))


@pytest.mark.parametrize("pair", SOME)
def test_two_forwards_then_two_backwards(pair: Both) -> None:
    model = shared(pair)
    output(model, pair).square().sum().backward()
    once = gradients(model)
    model.zero_grad()
    first, second = output(model, pair), output(model, pair)
    second.square().sum().backward()
    first.square().sum().backward()
    with embshare.cached(model):
        third, fourth = output(model, pair), output(model, pair)
        third.square().sum().backward()
        fourth.square().sum().backward()
    for name, found in gradients(model).items():
        torch.testing.assert_close(found, 4 * once[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pair", pairwise("gradients"))
def test_gradients_are_those_of_the_plain_rule(pair: Both) -> None:
    if pair[0].name == "lstm-packed":
        pytest.skip("torch.func cannot trace packing")
    model = shared(pair).eval()
    output(model, pair).square().mean().backward()
    found = gradients(model)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        result = torch.func.functional_call(model, parameters, (), pair[0].inputs)
        return (result if isinstance(result, Tensor) else result.logits).square().mean()

    wanted = torch.func.grad(loss)({n: p.detach() for n, p in model.named_parameters()})
    assert set(found) <= set(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pair", SOME)
def test_copies_and_pickles_follow_their_own_table(pair: Both) -> None:
    if pair[0].name in ("weight-norm",):
        pytest.skip("torch does not pickle parametrised modules")
    model = shared(pair).eval()
    if hasattr(model, "use"):
        del model.use  # a lambda, which no pickle takes
        model.use = next(e for e in EXAMPLES if e.name == pair[0].name).build().use
    wanted = output(model, pair)
    copied = copy.deepcopy(model)
    file = io.BytesIO()
    makers: list[Callable[[], Any]] = [lambda: copied]
    if not hasattr(model, "use"):
        torch.save(model, file)
        makers.append(lambda: pickle.loads(pickle.dumps(model)))
        makers.append(lambda: torch.load(io.BytesIO(file.getvalue()), weights_only=False))
    for make in makers:
        twin = make()
        assert torch.equal(output(twin, pair), wanted)
        write_in_place(twin)
        assert not torch.equal(output(twin, pair), wanted)
        assert torch.equal(output(model, pair), wanted)


@pytest.mark.parametrize("pair", SOME)
def test_averaged_models_read_their_own_average(pair: Both) -> None:
    model = shared(pair).eval()
    if hasattr(model, "use") and pair[0].name == "weight-norm":
        pytest.skip("covered by the layer itself")
    average = torch.optim.swa_utils.AveragedModel(model).eval()
    before = output(average.module, pair)
    write_in_place(model)
    average.update_parameters(model)
    write_in_place(model)
    average.update_parameters(model)
    assert not torch.equal(output(average.module, pair), before)
    assert not torch.equal(output(average.module, pair), output(model, pair))


@pytest.mark.parametrize("pair", pairwise("materialized"))
def test_materialized_weights_are_bitwise_equal_and_alias_nothing(pair: Both) -> None:
    torch.manual_seed(0)
    dense = pair[0].build()
    model = shared(pair).eval()
    wanted, weights = output(model, pair), derived(model)
    names = list(require_bank(model).plan.weights())
    plain = embshare.materialize(model).eval()
    kinds = [[type(m).__qualname__ for m in model.modules()] for model in (plain, dense)]
    assert kinds[0] == kinds[1]
    assert list(plain.state_dict()) == list(dense.state_dict())
    found = dict(plain.named_parameters(remove_duplicate=False))
    slots = require_bank(model).plan.slots
    firsts = [slot.weights[0] for slot in slots]
    assert set(names) <= set(found) and set(firsts) <= set(found)
    for reader, weight in zip(require_bank(model).readers, weights, strict=True):
        assert any(torch.equal(found[n], weight) for n in slots[reader.slot].weights)
    torch.testing.assert_close(output(plain, pair), wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(output(plain, pair), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pair", SOME)
def test_kept_weights_are_derived_once_and_changes_are_said(pair: Both) -> None:
    model = shared(pair).eval()
    bank = require_bank(model)
    with torch.no_grad(), embshare.cached(model):
        bank.evaluations = 0
        wanted = output(model, pair)
        assert torch.equal(output(model, pair), wanted)
        assert bank.evaluations == len(bank.plan.sources)
        optimizer_step(model)
        if pair[1] == "own":  # nothing is kept, and so nothing can be stale
            assert not torch.equal(output(model, pair), wanted)
            return
        with pytest.warns(StaleCacheWarning, match="changed inside `embshare.cached`"):
            assert not torch.equal(output(model, pair), wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("pair", SOME)
def test_other_types(pair: Both, dtype: torch.dtype) -> None:
    model = shared(pair).eval()
    wanted = output(model, pair)
    model.to(dtype)
    assert {w.dtype for w in derived(model)} == {dtype}
    found = output(model, pair)
    assert found.dtype is dtype
    if dtype is torch.float64:
        torch.testing.assert_close(found.float(), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pair", VEPS)
def test_a_grown_vocabulary_leaves_every_weight_bit_equal(pair: Both) -> None:
    model = shared(pair).eval()
    weights = derived(model)
    if hasattr(model, "resize_token_embeddings"):
        model.resize_token_embeddings(130, mean_resizing=False)
    else:
        table = require_bank(model).columns[0].table()
        table.data = torch.cat([table.data, torch.ones(9, table.shape[1])])
    assert all(torch.equal(a, b) for a, b in zip(derived(model), weights, strict=True))
    if not isinstance(getattr(model, "head", None), nn.Linear) or model.head.bias is None:
        output(model, pair)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("pair", SOME)
def test_activation_checkpointing(pair: Both, reentrant: bool) -> None:
    if pair[0] not in LAYERS:
        pytest.skip("the models' own checkpointing is below")
    model = shared(pair)
    output(model, pair).square().sum().backward()
    wanted, use = gradients(model), model.use
    model.zero_grad()
    bank = require_bank(model)
    bank.evaluations = 0

    def checkpointed(layer: nn.Module, hidden: Tensor) -> Tensor:
        found = torch.utils.checkpoint.checkpoint(use, layer, hidden, use_reentrant=reentrant)
        assert isinstance(found, Tensor)
        return found

    model.use = checkpointed
    output(model, pair).square().sum().backward()
    # Without a graph of its forward, the reentrant kind derives once more, for all its segments.
    wanted_evaluations = (2 if reentrant else 1) * len(bank.plan.sources)
    assert bank.evaluations == wanted_evaluations, "the backward takes what its forward had"
    for name, found in gradients(model).items():
        # What is derived once more is derived in other parts, with other rounding.
        rtol, atol = (1e-4, 1e-4) if reentrant else (None, None)
        torch.testing.assert_close(found, wanted[name], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_the_models_own_checkpointing(name: str, reentrant: bool) -> None:
    pair = (next(e for e in MODELS if e.name == name), "veps")
    model = shared(pair).train()
    output(model, pair).square().sum().backward()
    wanted = gradients(model)
    model.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    require_bank(model).evaluations = 0
    output(model, pair).square().sum().backward()
    # A head that the graph of the forward holds keeps the weights alive: then once suffices.
    assert 1 <= require_bank(model).evaluations <= (2 if reentrant else 1)
    for key, found in gradients(model).items():
        torch.testing.assert_close(found, wanted[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_generation_derives_once(name: str) -> None:
    pair = (next(e for e in MODELS if e.name == name), "factor")
    model = shared(pair).eval()
    plain = embshare.materialize(model)
    bank = require_bank(model)
    bank.evaluations = 0
    ids = pair[0].inputs["input_ids"]
    mask = torch.ones_like(ids)
    found = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert bank.evaluations == 1
    assert torch.equal(
        found, plain.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    )
