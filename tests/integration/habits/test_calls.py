"""Calls: a wrong argument is one clear error, and a model that is used as ever is not noisy."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import (
    AlreadySharedError,
    InvalidValueError,
    NothingMatchedError,
    PlanError,
)
from embshare.runtime.bank import require_bank
from tests._support.habit_models import CONFIGS, IDS, LM, WIDTH, equal, loss, out, shared, train

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
share: Any = embshare.share_from_embedding


@pytest.mark.parametrize("verb", [share, embshare.plan_sharing])
@pytest.mark.parametrize(
    ("model", "config", "text"),
    [
        (LM(), "eps", r"`config` must be a ShareConfig.*ShareConfig\(method='eps'\)"),
        (LM(), {"method": "eps"}, r"is a mapping: ShareConfig\(\*\*config\)"),
        (LM(), ShareConfig, r"`config` must be a ShareConfig"),
        (LM, None, r"`model` must be an instance of it: its class was given"),
        ("bert-base-uncased", None, r"`model` must be a module \(it is 'bert-base"),
        ({"embed.weight": torch.ones(2, 2)}, None, "`model` must be a module"),
        (None, None, "`model` must be a module"),
    ],
)
def test_wrong_arguments_are_one_clear_error(verb: Any, model: Any, config: Any, text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        verb(model, config)


def test_a_child_and_then_its_parent() -> None:
    parent: Any = nn.ModuleDict({"child": LM(), "rest": nn.Linear(WIDTH, WIDTH)})
    share(parent["child"])
    with pytest.raises(AlreadySharedError, match=r"`child` is, `rest\.weight` is not.*materialize"):
        share(parent)
    alone = nn.ModuleDict({"child": shared()})
    assert share(alone) is alone  # nothing is left to share


def test_a_part_of_a_shared_model() -> None:
    model = shared()
    with pytest.raises(AlreadySharedError, match="a part of a shared model"):
        share(model.enc)


def test_a_lazy_layer_is_called_first() -> None:
    model: Any = LM()
    model.enc.append(nn.LazyLinear(WIDTH))
    with pytest.raises(PlanError, match=r"`enc\.3\.weight` of a lazy module.*Call the model"):
        share(model)
    model(IDS)
    share(model)
    train(model)


def test_parameters_of_a_list_by_their_numbers() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(97, WIDTH)
            self.ws = nn.ParameterList(torch.randn(WIDTH, WIDTH) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.embed(x)
            for weight in self.ws:
                found = found @ weight
            return found

    model: Any = share(Listed(), ShareConfig(include=("ws.[0-9]",)))
    assert len(list(model.ws.parameters())) == 0
    before = out(model)
    train_plain = torch.optim.SGD(model.parameters(), lr=0.01)
    model(IDS).square().mean().backward()
    train_plain.step()
    assert not torch.equal(out(model), before)
    torch.testing.assert_close(out(embshare.materialize(model)), out(model))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_the_older_norms_are_made_plain_after_an_evaluation(norm: Any) -> None:
    model: Any = LM()
    norm(model.enc[0])
    share(model).eval()
    wanted = out(model)
    torch.testing.assert_close(out(embshare.materialize(model)), wanted)
    model.train()
    train(model)
    model.eval()
    torch.testing.assert_close(out(embshare.materialize(model)), out(model))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_dynamic_quantiser_of_torch_finds_plain_layers_of_a_materialized_model() -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch has no quantized engine here")
    plain = embshare.materialize(shared()).eval()
    found = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    assert "DynamicQuantized" in repr(found)


def test_a_table_that_pruning_masks_is_trained_for_several_steps() -> None:
    from torch.nn.utils import prune

    model = shared()
    prune.random_unstructured(model.embed, "weight", 0.5)
    train(model, 3)
    mask = model.embed.weight_mask
    assert not model.embed.weight[mask == 0].any()
    torch.testing.assert_close(out(embshare.materialize(model)), out(model))
    with embshare.cached(model):  # and is not taken for another table at each call
        wanted = out(model)
        assert torch.equal(out(model), wanted)
    prune.remove(model.embed, "weight")
    torch.testing.assert_close(out(model), wanted)
    train(model)


def test_a_table_pruned_before_sharing() -> None:
    from torch.nn.utils import prune

    model: Any = LM()
    prune.random_unstructured(model.embed, "weight", 0.5)
    try:
        share(model)
    except embshare.EmbshareError as error:
        assert "source" in str(error)
    else:
        train(model, 3)


def test_a_pattern_that_names_nothing() -> None:
    with pytest.raises(NothingMatchedError, match=r"`include` pattern 'encoder\.\*' matches no"):
        share(LM(), ShareConfig(include=("encoder.*",)))


def test_a_trained_or_evaluated_model_is_not_noisy() -> None:
    model = shared()
    for _ in range(3):
        train(model, 2)
        for _ in range(8):
            out(model)


def test_a_long_loop_without_gradients_derives_once_and_is_quiet() -> None:
    model = shared()
    bank = require_bank(model)
    bank.evaluations = 0
    with torch.no_grad():
        for _ in range(40):  # warnings are errors
            model(IDS)
    assert bank.evaluations == 1


@ALL
def test_inference_first_and_training_after(config: ShareConfig) -> None:
    model = shared(config)
    with torch.inference_mode():
        wanted = model(IDS)
    with embshare.cached(model):
        assert torch.equal(out(model), wanted)
    train(model)
    assert not torch.equal(out(model), wanted)


@pytest.mark.parametrize("keep", [False, True], ids=["plain", "cached"])
def test_sixteen_threads_compute_what_one_does(keep: bool) -> None:
    model = shared().eval()
    wanted, found = out(model), list[Tensor]()

    def run() -> None:
        for _ in range(5):
            if keep:
                with embshare.cached(model):
                    found.append(out(model))
            else:
                found.append(out(model))

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all(torch.equal(f, wanted) for f in found)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch.func's own
def test_forward_mode_and_double_backward() -> None:
    model = shared()
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    tangents = {n: torch.randn_like(p) for n, p in parameters.items()}

    def run(p: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(model, p, (IDS,))
        return found.square().mean()

    jvp: Any = torch.func.jvp
    value, slope = jvp(run, (parameters,), (tangents,))
    gradient = torch.func.grad(run)(parameters)
    wanted = sum((gradient[n] * tangents[n]).sum() for n in parameters)
    torch.testing.assert_close(slope, wanted, rtol=1e-3, atol=1e-5)
    first = torch.autograd.grad(loss(model), model.embed.weight, create_graph=True)[0]
    first.square().sum().backward()
    assert model.embed.weight.grad.abs().sum() > 0 and value.isfinite()


def test_gradients_of_each_example() -> None:
    model = shared()
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def run(p: Any, x: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(model, p, (x[None],))
        return found.square().mean()

    each = torch.func.vmap(torch.func.grad(run), in_dims=(None, 0))(parameters, IDS)
    for number, ids in enumerate(IDS):
        one = torch.func.grad(run)(parameters, ids)
        torch.testing.assert_close(each["embed.weight"][number], one["embed.weight"])


def test_gradient_accumulation_equals_one_large_batch() -> None:
    one, many = shared(), shared()
    loss(one).backward()
    for row in IDS:
        logits = many(row[None]).flatten(0, 1)
        (nn.functional.cross_entropy(logits, row) / 2).backward()
    torch.testing.assert_close(one.embed.weight.grad, many.embed.weight.grad)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
def test_a_traced_model_computes_the_same() -> None:
    model = shared().eval()
    traced = torch.jit.trace(model, (IDS,))
    torch.testing.assert_close(traced(IDS), out(model))


def test_lbfgs_with_a_closure() -> None:
    model = shared()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss(model)
        found.backward()
        return found

    before = float(loss(model).detach())
    optimizer.step(closure)
    assert float(loss(model).detach()) < before


@pytest.mark.parametrize("name", ["orthogonal", "weight_norm", "spectral_norm"])
def test_parametrized_layers_are_trained_and_made_plain(name: str) -> None:
    model: Any = LM()
    getattr(nn.utils.parametrizations, name)(model.enc[0])
    share(model)
    train(model)
    model.eval()
    torch.testing.assert_close(out(embshare.materialize(model)), out(model))


def test_torchs_fast_path_of_encoders_with_padding_masks() -> None:
    from tests._support.layer_examples import Encoder

    model: Any = share(Encoder()).eval()
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 4:] = True
    hidden = model.embed(IDS)
    wanted = model.encoder(hidden, src_key_padding_mask=mask)[~mask]
    with torch.inference_mode():
        found = model.encoder(hidden, src_key_padding_mask=mask)[~mask]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_channels_last_images() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(97, 8)
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.conv(x)
            return found

    model: Any = share(Net())
    image = torch.randn(2, 3, 8, 8)
    wanted = model(image)
    model.to(memory_format=torch.channels_last)
    found = model(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted)


def test_two_equal_calls_give_equal_results() -> None:
    model = shared().eval()
    assert torch.equal(out(model), out(model)) and equal(model, model)
