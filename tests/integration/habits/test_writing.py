"""Writing into a derived weight raises: what was written would be gone with the next call."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import embshare
from embshare.errors import DerivedWeightError, UnusedHookWarning
from tests._support.habit_models import IDS, WIDTH, equal, out, shared, train, weights
from tests._support.layer_examples import LAYERS, Example

INITS: dict[str, Callable[[Tensor], Any]] = {
    "uniform": nn.init.uniform_,
    "normal": nn.init.normal_,
    "trunc_normal": nn.init.trunc_normal_,
    "constant": lambda w: nn.init.constant_(w, 0.5),
    "ones": nn.init.ones_,
    "zeros": nn.init.zeros_,
    "eye": nn.init.eye_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "sparse": lambda w: nn.init.sparse_(w, 0.5),
}

WRITES: dict[str, Callable[[Any], Any]] = {
    "data.clamp_": lambda m: m.weight.data.clamp_(-0.01, 0.01),
    "data =": lambda m: setattr(m.weight, "data", torch.zeros(WIDTH, WIDTH)),
    "data.copy_": lambda m: m.weight.data.copy_(torch.zeros(WIDTH, WIDTH)),
    "data[...] =": lambda m: m.weight.data.__setitem__(0, 0.0),
    "data *=": lambda m: m.weight.data.__imul__(2),
    "weight[...] =": lambda m: m.weight.__setitem__((0, 0), 1.0),
    "weight += ": lambda m: m.weight.__iadd__(1),
    "a row": lambda m: m.weight[0].zero_(),
    "a transposed view": lambda m: m.weight.t().mul_(2),
    "a reshaped view": lambda m: m.weight.view(-1).zero_(),
    "a detached view": lambda m: m.weight.detach().zero_(),
    "flattened and chunked": lambda m: m.weight.flatten().chunk(2)[0].zero_(),
    "unbound rows": lambda m: m.weight.unbind(0)[1].zero_(),
    "out=": lambda m: torch.add(torch.ones(WIDTH, WIDTH), 1, out=m.weight),
    "_foreach_mul_": lambda m: torch._foreach_mul_([m.weight], 2.0),
    "_foreach_zero_": lambda m: torch._foreach_zero_([m.weight.data]),
    "_foreach_copy_": lambda m: torch._foreach_copy_([m.weight], [torch.zeros(WIDTH, WIDTH)]),
    "fill_diagonal_": lambda m: m.weight.data.fill_diagonal_(1),
    "masked_fill_": lambda m: m.weight.data.masked_fill_(torch.ones(WIDTH, WIDTH).bool(), 0),
    "index_copy_": lambda m: m.weight.data.index_copy_(0, torch.tensor([0]), torch.ones(1, WIDTH)),
    "renorm_": lambda m: m.weight.data.renorm_(2, 0, 1.0),
    "lerp_": lambda m: m.weight.data.lerp_(torch.zeros(WIDTH, WIDTH), 0.5),
    "set_": lambda m: m.weight.set_(torch.zeros(WIDTH, WIDTH)),
    "resize_": lambda m: m.weight.data.resize_(3),
    "requires_grad_": lambda m: m.weight.requires_grad_(False),
    "requires_grad =": lambda m: setattr(m.weight, "requires_grad", False),
    "grad =": lambda m: setattr(m.weight, "grad", torch.zeros(WIDTH, WIDTH)),
    "reset_parameters": lambda m: m.reset_parameters(),
    "vector_to_parameters": lambda m: nn.utils.vector_to_parameters(torch.zeros(144), [m.weight]),
}


@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_an_initialiser_is_refused(init: Callable[[Tensor], Any]) -> None:
    model = shared()
    with pytest.raises(DerivedWeightError, match=r"derived from a table.*materialize"):
        init(model.enc[0].weight)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_a_write_is_refused(write: Callable[[Any], Any], grad: bool) -> None:
    model = shared()
    before = out(model)
    with torch.set_grad_enabled(grad), pytest.raises(DerivedWeightError, match="derived from a"):
        write(model.enc[0])
    assert torch.equal(out(model), before)


def init_fn(module: nn.Module) -> None:
    """What BERT's and many others' `_init_weights` do."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, (nn.LSTM, nn.GRU, nn.RNN)):
        nn.init.orthogonal_(module.get_parameter("weight_hh_l0"))


def test_an_init_function_applied_to_the_model_is_refused() -> None:
    with pytest.raises(DerivedWeightError, match=r"share after the weights were written"):
        shared().apply(init_fn)


def old_norm(example: Example) -> bool:
    """Weight norms, whose `weight` is computed from `weight_v`, which is the derived one."""
    return example.name in ("weight-norm", "old-weight-norm")


@pytest.mark.parametrize("example", [e for e in LAYERS if not old_norm(e)], ids=lambda e: e.name)
def test_every_kind_of_layer_refuses_writes_and_resets(example: Example) -> None:
    config = embshare.ShareConfig(include=example.include)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", embshare.errors.GrowthWarning)
        model = embshare.share_from_embedding(example.build(), config, rules=example.rules)
    before = weights(model)
    for name in before:
        owner, _, leaf = name.rpartition(".")
        layer: Any = model.get_submodule(owner)
        with pytest.raises(DerivedWeightError):
            getattr(layer, leaf).data.zero_()
        with pytest.raises(DerivedWeightError):
            nn.init.normal_(getattr(layer, leaf))
        with pytest.raises(DerivedWeightError):
            setattr(layer, leaf, nn.Parameter(torch.zeros(2, 2)))
        if hasattr(type(layer), "reset_parameters") and example.name != "attention":
            with pytest.raises(DerivedWeightError):
                layer.reset_parameters()
    assert all(torch.equal(w, before[n]) for n, w in weights(model).items())


@pytest.mark.parametrize("method", [prune.l1_unstructured, prune.random_unstructured])
def test_pruning_a_derived_weight_is_refused_and_leaves_the_model_alone(method: Any) -> None:
    model = shared()
    before = out(model)
    with pytest.raises(DerivedWeightError, match=r"(Prune|derived)"):
        method(model.enc[0], "weight", 0.5)
    assert torch.equal(out(model), before)
    assert not list(model.enc[0].buffers())


def test_global_pruning_is_refused() -> None:
    model = shared()
    with pytest.raises(DerivedWeightError):
        prune.global_unstructured(
            [(model.enc[0], "weight"), (model.enc[2], "weight")], prune.L1Unstructured, amount=0.5
        )


def test_pruning_a_bias_works_as_ever() -> None:
    model = shared()
    prune.l1_unstructured(model.enc[0], "bias", 0.5)
    train(model)
    assert (model.enc[0].bias == 0).sum() >= 6


class Symmetric(nn.Module):
    """A parametrization of the caller's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).t()


@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        lambda layer, name: parametrize.register_parametrization(layer, name, Symmetric()),
    ],
)
def test_a_parametrization_put_on_a_derived_weight_is_refused_by_torch(norm: Any) -> None:
    model = shared()
    before, names = out(model), set(dict(model.named_parameters()))
    with pytest.raises(ValueError, match=r"SharedLinear\(.*derived=weight.*does not have a param"):
        norm(model.enc[0], "weight")
    assert torch.equal(out(model), before)
    assert set(dict(model.named_parameters())) == names


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_the_older_norms_find_no_parameter_and_leave_the_model_alone(norm: Any) -> None:
    model = shared()
    before = out(model)
    with pytest.raises(KeyError, match="weight"):
        norm(model.enc[0], "weight")
    assert torch.equal(out(model), before)


def test_swapping_a_derived_weight_is_refused_by_torch() -> None:
    model = shared()
    before, weight = out(model), model.enc[0].weight
    for other in (torch.zeros_like(weight), nn.Parameter(torch.zeros_like(weight))):
        for pair in ((weight, other), (other, weight)):
            with pytest.raises(RuntimeError, match="Cannot swap"):
                torch.utils.swap_tensors(*pair)
    assert torch.equal(out(model), before)


def test_a_parametrization_before_sharing_goes_on() -> None:
    from tests._support.habit_models import LM

    model: Any = LM()
    parametrizations.weight_norm(model.enc[0], "weight")
    embshare.share_from_embedding(model)
    train(model)
    plain = embshare.materialize(model)
    assert equal(plain, model)


def test_numpy_reads_and_cannot_write() -> None:
    model = shared()
    array = model.enc[0].weight.detach().numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_reading_gives_ordinary_tensors() -> None:
    model = shared()
    weight = model.enc[0].weight
    assert type(weight + 1) is Tensor and type(weight.clone()) is Tensor
    assert type(weight @ weight) is Tensor
    clone = weight.detach().clone()
    clone.zero_()
    copied = copy.deepcopy(weight.detach())
    assert torch.equal(copied, weight)
    assert torch.isclose(weight.norm(), weight.square().sum().sqrt())
    assert nn.Parameter(weight.detach().clone()).requires_grad


def test_a_penalty_on_derived_weights_trains_the_table() -> None:
    model = shared()
    sum(layer.weight.square().sum() for layer in (model.enc[0], model.head)).backward()
    assert model.embed.weight.grad.abs().sum() > 0


def test_clipping_the_models_parameters_leaves_derived_weights_to_their_table() -> None:
    """WGAN's loop over `parameters()`, whose columns follow the clipped table."""
    model = shared()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.clamp_(-0.01, 0.01)
    assert model.enc[0].weight.abs().max() < 0.01


def test_vectors_of_all_parameters_go_and_come() -> None:
    model = shared()
    vector = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    before = out(model)
    with torch.no_grad():
        nn.utils.vector_to_parameters(vector * 0.5, model.parameters())
    assert not torch.equal(out(model), before)
    with torch.no_grad():
        nn.utils.vector_to_parameters(vector, model.parameters())
    torch.testing.assert_close(out(model), before)


@pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning")
def test_a_norm_is_fused_into_a_plain_convolution_and_not_into_a_derived_one() -> None:
    from tests._support.layer_examples import Convolutional

    model: Any = embshare.share_from_embedding(Convolutional()).eval()
    conv, norm = model.blocks[0][0], model.blocks[0][1]
    wanted = norm(conv(torch.ones(1, WIDTH, 5)))
    with pytest.raises(DerivedWeightError, match="materialize"):
        nn.utils.fuse_conv_bn_eval(conv, norm)
    plain = embshare.materialize(model)
    fused = nn.utils.fuse_conv_bn_eval(plain.blocks[0][0], plain.blocks[0][1])
    torch.testing.assert_close(fused(torch.ones(1, WIDTH, 5)), wanted)


def test_a_hook_or_gradient_of_a_derived_weight_is_warned_of() -> None:
    model = shared()
    with pytest.warns(UnusedHookWarning, match=r"another tensor at each call.*materialize"):
        model.enc[0].weight.register_hook(lambda g: g)
    with pytest.warns(UnusedHookWarning):
        assert model.enc[0].weight.grad is None
    with pytest.warns(UnusedHookWarning):
        model.enc[0].weight.retain_grad()


def test_a_hook_that_writes_in_the_forward_is_within_the_call() -> None:
    """A pre-hook that clamps its layer's weight during the call: the weight of this call alone."""
    model = shared()
    seen = list[type]()
    handle = model.enc[0].register_forward_pre_hook(
        lambda layer, _: seen.append(type(layer.weight))
    )
    out(model)
    handle.remove()
    assert seen == [Tensor]
    assert out(model).shape == (*IDS.shape, 97)
