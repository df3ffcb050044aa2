"""Compiled models: as few graphs as their dense twins, and kept weights are used."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import embshare
from embshare.errors import StaleCacheWarning, UnusedCacheWarning
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import (
    CONFIGS,
    EXAMPLES,
    IDS,
    WIDTH,
    Convolutional,
    Encoder,
    Recurrent,
)

BY_NAME = {example.name: example for example in EXAMPLES}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        yield
    torch._dynamo.reset()


def built(name: str, config: str | None) -> nn.Module:
    """A dense model, or its shared twin."""
    example = BY_NAME[name]
    torch.manual_seed(0)
    model = example.build().eval()
    if config is not None:
        settings = CONFIGS[config].model_copy(update={"include": example.include})
        embshare.share_from_embedding(model, settings, rules=example.rules)
    return model


def output(result: Any) -> Tensor:
    found: Tensor = result if isinstance(result, Tensor) else result.logits
    return found


def counted(
    model: nn.Module, use: Callable[[nn.Module, nn.Module], None], way: str = "compile"
) -> tuple[int, int]:
    """How many graphs a use makes, and how often one was broken."""
    torch._dynamo.reset()
    counters.clear()
    backend = CompileCounterWithBackend("eager")
    if way == "in place":
        model.compile(backend=backend)
        use(model, model)
    else:
        compiled: Any = torch.compile(model, backend=backend, fullgraph=way == "fullgraph")
        use(model, compiled)
    return backend.frame_count, sum(counters["graph_break"].values())


def life(model: nn.Module, compiled: nn.Module) -> None:
    """What a model goes through: training steps, evaluation, loading, other batches and dtypes."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with torch.no_grad():
        compiled(IDS)
    for training in (True, True, False, True):
        output(compiled.train(training)(IDS)).square().mean().backward()
        optimizer.step()
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    compiled(IDS)
    model(IDS)  # eager between compiled calls
    for count in (3, 4, 5):
        compiled(IDS[:1].expand(count, -1).contiguous())
    for enabled in (True, False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            compiled(IDS)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    compiled(IDS)
    copy.deepcopy(compiled)(IDS)


LIVES = [
    ("linear", "untied", "in place"),
    ("cnn-model", "relaxed", "fullgraph"),
    ("attention", "anchor", "compile"),
    ("lstm", "veps", "compile"),
    ("gru", "relaxed", "in place"),
    ("lstm-model", "veps", "compile"),
    ("linear", "own", "in place"),
    ("cnn-model", "own-relaxed", "fullgraph"),
    ("lstm-model", "own", "compile"),
]


@pytest.mark.parametrize(("name", "config", "way"), LIVES)
def test_a_life_takes_as_many_graphs_as_the_dense_models(name: str, config: str, way: str) -> None:
    wanted = counted(built(name, None), life, way)
    assert counted(built(name, config), life, way) == wanted


def steps(model: nn.Module, compiled: nn.Module) -> None:
    """An optimizer's steps, the first after a call without gradients."""
    inputs = BY_NAME["bert"].inputs if hasattr(model, "config") else {"ids": IDS}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with torch.no_grad():
        compiled(**inputs)
    for _ in range(3):
        output(compiled(**inputs)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["gpt2", "transformer-encoder", "conv1d", "gru-cell"])
def test_one_graph_with_and_one_without_gradients(name: str) -> None:
    assert counted(built(name, "veps"), steps, "fullgraph") == (2, 0)


@pytest.mark.parametrize("name", ["lstm-packed", "lstm-deep", "rnn"])
def test_recurrent_layers_leave_the_graphs_that_dense_ones_leave(name: str) -> None:
    wanted = counted(built(name, None), steps)
    assert counted(built(name, "untied"), steps) == wanted


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_models_are_one_graph_where_torch_allows_it(kind: Any) -> None:
    shared = embshare.share_from_embedding(Recurrent(kind)).eval()
    wanted = shared(IDS)

    def use(model: nn.Module, compiled: nn.Module) -> None:
        for _ in range(2):
            torch.testing.assert_close(compiled(IDS), wanted)

    with torch._dynamo.config.patch(allow_rnn=True):
        assert counted(shared, use, "fullgraph") == (1, 0)


class Broken(nn.Module):
    """A block in which the compiler has to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        torch._dynamo.graph_break()
        return x + 1


def test_a_graph_that_breaks_inside_breaks_into_as_many() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        model = Convolutional().eval()
        model.blocks = nn.ModuleList(Broken() for _ in range(3))
        return model

    def use(model: nn.Module, compiled: nn.Module) -> None:
        for _ in range(3):
            compiled(IDS).square().mean().backward()
        torch.testing.assert_close(compiled(IDS), model(IDS))

    wanted = counted(make(), use)
    shared = embshare.share_from_embedding(make())
    assert counted(shared, use) == wanted
    assert require_bank(shared).evaluations == 3 + 2  # one for each call, outside of the graphs


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return list(model.blocks if isinstance(model, Convolutional) else model.encoder.layers)  # type: ignore[arg-type, union-attr]


@pytest.mark.parametrize("kind", [Convolutional, Encoder])
@pytest.mark.parametrize("alone", [False, True])
def test_all_parts_of_a_class_are_one_graph(kind: Any, alone: bool) -> None:
    counts = []
    for shared in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = kind().eval()
        if shared:
            embshare.share_from_embedding(model)
        wanted = model(IDS)
        backend = CompileCounterWithBackend("eager")
        for block in blocks_of(model):
            block.compile(backend=backend, fullgraph=True)
        if alone:
            shape = (2, WIDTH, 6) if kind is Convolutional else (2, 6, WIDTH)
            for block in blocks_of(model):
                block(torch.ones(shape)).sum().backward()
        else:
            for _ in range(2):
                torch.testing.assert_close(model(IDS), wanted)
        counts.append(backend.frame_count)
    assert counts == [1, 1]


class Small(nn.Module):
    """A table and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(97, WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.inner(self.embed(ids))
        return found


def test_models_of_many_classes_do_not_use_up_each_others_graphs() -> None:
    """The compiler takes eight versions of one piece of code."""
    for number in range(10):
        kind = type(f"Model{number}", (Small,), {})
        model: Any = embshare.share_from_embedding(kind())
        compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(IDS), model(IDS))


# ------------------------------------------------------------------ kept weights


@pytest.mark.parametrize(
    ("name", "config"),
    [("cnn-model", "relaxed"), ("attention", "anchor"), ("lstm-model", "veps")],
)
@torch.no_grad()
def test_kept_weights_are_derived_once_and_used(name: str, config: str) -> None:
    model = built(name, config)
    bank = require_bank(model)
    recurrent = name == "lstm-model"
    backend = CompileCounterWithBackend("eager")
    compiled: Any = torch.compile(model, backend=backend, fullgraph=not recurrent)
    wanted = compiled(IDS)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.data.mul_(1.1)  # what no version counter sees
        wanted = model(IDS)
        embshare.release(model)  # what that call has kept, which a block would take over
        bank.evaluations = 0
        with embshare.cached(compiled):
            for _ in range(3):
                torch.testing.assert_close(compiled(IDS), wanted)
        assert bank.evaluations == 1
    assert backend.frame_count == (0 if recurrent else 2)  # one for kept weights, one for none


@torch.no_grad()
def test_kept_weights_that_are_overtaken_are_derived_again() -> None:
    model = built("cnn-model", "veps")
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    with embshare.cached(model):
        old = compiled(IDS)
        model.get_parameter("embed.weight").mul_(2)
        with pytest.warns(StaleCacheWarning):
            new = compiled(IDS)
        torch.testing.assert_close(new, model(IDS))
    assert not torch.allclose(old, new)
    model.get_parameter("embed.weight").data.mul_(2)
    torch.testing.assert_close(compiled(IDS), model(IDS))


def test_training_with_kept_weights_is_right() -> None:
    model, plain = built("cnn-model", "relaxed"), built("cnn-model", "relaxed")
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    with embshare.cached(model):
        for _ in range(2):
            compiled(IDS).square().sum().backward()
            plain(IDS).square().sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_graph_around_the_model_says_that_it_uses_nothing_kept() -> None:
    model = built("cnn-model", "veps")

    @torch.compile(backend="eager", fullgraph=True)
    def around(ids: Tensor) -> Any:
        return model(ids) * 2

    wanted = around(IDS)
    with pytest.warns(UnusedCacheWarning, match=r"Compile the shared model itself"):
        with embshare.cached(model):
            torch.testing.assert_close(around(IDS), wanted)
            model.get_parameter("embed.weight").data.mul_(2)
            changed = around(IDS)
    torch.testing.assert_close(changed, 2 * model(IDS))
    with embshare.cached(model):  # nothing to be said of eager calls
        model(IDS)


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("config", ["untied", "factor", "relaxed", "anchor"])
def test_steps_are_those_of_an_eager_model(config: str) -> None:
    """Outputs and gradients over optimizer steps, with evaluation between them."""
    eager, model = built("cnn-model", config), built("cnn-model", config)
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (eager, model)]
    for _ in range(3):
        losses = [m(IDS).square().mean() for m in (eager, compiled)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad(), embshare.cached(model):
            torch.testing.assert_close(compiled(IDS), eager(IDS), rtol=1e-4, atol=1e-5)


def test_the_signs_of_an_anchor_are_no_operations_of_a_graph() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph

    model = built("cnn-model", "anchor")
    compiled: Any = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(IDS), model(IDS))
    (graph,) = graphs
    assert not any("arange" in str(node.target) for node in graph.graph.nodes)


@pytest.mark.gpu
@pytest.mark.parametrize("config", ["veps", "relaxed", "anchor"])
@pytest.mark.parametrize("name", ["cnn-model", "transformer-encoder", "lstm-model"])
def test_cuda_graphs_follow_optimizer_steps_and_kept_weights(name: str, config: str) -> None:
    """``mode="reduce-overhead"`` replays fixed memory: what it reads must be what is current."""
    eager, model = built(name, config).cuda(), built(name, config).cuda()
    compiled: Any = torch.compile(model, mode="reduce-overhead")
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (eager, model)]
    ids = IDS.cuda()
    for _ in range(5):  # two to warm up, one to record, two to replay
        losses = []
        for run, optimizer in zip((eager, compiled), optimizers, strict=True):
            torch.compiler.cudagraph_mark_step_begin()
            loss = run(ids).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().clone())
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-5)
        with torch.no_grad(), embshare.cached(model):
            for _ in range(2):
                torch.compiler.cudagraph_mark_step_begin()
                found = compiled(ids).clone()
                torch.testing.assert_close(found, eager(ids), rtol=1e-3, atol=1e-4)
        with torch.no_grad():  # and outside of the block: derived again
            torch.compiler.cudagraph_mark_step_begin()
            found = compiled(ids).clone()
            torch.testing.assert_close(found, eager(ids), rtol=1e-3, atol=1e-4)
