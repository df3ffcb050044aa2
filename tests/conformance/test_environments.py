"""The same models under what people put around them: compilers, exporters, threads, processes."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import EXAMPLES, IDS, LAYERS, MODELS, VOCABULARY, WIDTH, Example
from tests.conformance.cases import Both, derived, gradients, output, own_examples, shared

ALL = [pytest.param((e, "veps"), id=e.name) for e in EXAMPLES]
ALL += [pytest.param((e, "own"), id=f"{e.name}-own") for e in own_examples()]
WHOLE = [pytest.param((e, c), id=f"{e.name}-{c}") for e in MODELS for c in ("veps", "factor")]
WHOLE += [pytest.param((e, "anchor"), id=f"{e.name}-anchor") for e in (MODELS[1], MODELS[-1])]
AS_STORED = ("bilinear", "weight-norm", "old-weight-norm", "experts", "own-kind")
"""Layers of which nobody knows beforehand what autocast would do with the weight."""
UNTRACEABLE = {"lstm-packed": "torch traces no packed sequences"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


def skip_untraceable(example: Example) -> None:
    if example.name in UNTRACEABLE:
        pytest.skip(UNTRACEABLE[example.name])


@pytest.mark.parametrize("pair", ALL)
def test_compiles_whole(pair: Both) -> None:
    skip_untraceable(pair[0])
    model = shared(pair).eval()
    wanted = output(model, pair)
    wanted.square().mean().backward()
    slopes = gradients(model)
    model.zero_grad()
    recurrent = any(isinstance(m, nn.RNNBase) for m in model.modules())
    # The compiler breaks the graph at every plain torch.nn.LSTM, shared or not.
    compiled = torch.compile(model, fullgraph=not recurrent, backend="aot_eager")
    found = output(compiled, pair)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    found.square().mean().backward()
    for name, slope in gradients(model).items():
        torch.testing.assert_close(slope, slopes[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pair", WHOLE)
def test_a_compiled_graph_holds_one_projection(pair: Both) -> None:
    if "lstm" in pair[0].name or "gru" in pair[0].name:
        pytest.skip("the compiler does not enter recurrent modules")
    counts: dict[str, int] = {}

    def count(name: str) -> Any:
        def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
            products = ("mm", "matmul", "linear", "conv", "einsum")
            counts[name] = counts.get(name, 0) + sum(
                node.op.startswith("call_") and any(word in str(node.target) for word in products)
                for node in graph.graph.nodes
            )
            return graph

        return backend

    model = shared(pair).eval()
    plain = embshare.materialize(model).eval()
    output(torch.compile(model, fullgraph=True, backend=count("shared")), pair)
    output(torch.compile(plain, fullgraph=True, backend=count("plain")), pair)
    extra = 1 + 3 * (pair[1] == "factor")  # through the factor at two look-ups and out
    assert counts["plain"] < counts["shared"] <= counts["plain"] + extra


def test_a_compiled_part_of_an_eager_model_reads_what_the_call_derived() -> None:
    pair = (next(e for e in MODELS if e.name == "transformer-encoder"), "veps")
    model = shared(pair)
    output(model, pair).square().mean().backward()
    wanted = gradients(model)
    model.zero_grad()
    for layer in model.encoder.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    require_bank(model).evaluations = 0
    output(model, pair).square().mean().backward()
    assert require_bank(model).evaluations == 1
    for name, found in gradients(model).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pair", ALL)
def test_exports(pair: Both) -> None:
    skip_untraceable(pair[0])
    model = shared(pair).eval()
    wanted = output(model, pair)
    inputs = {k: v for k, v in pair[0].inputs.items() if k != "labels"}
    if "labels" in pair[0].inputs:
        inputs["decoder_input_ids"] = IDS
        wanted = model(**inputs).logits
    if hasattr(model, "generate"):
        inputs["use_cache"] = False
    program = torch.export.export(model, (), inputs)
    found = program.module()(**inputs)
    torch.testing.assert_close(found if isinstance(found, Tensor) else found.logits, wanted)
    assert not set(program.state_dict) & set(require_bank(model).plan.weights())


class Stack(nn.Module):
    """Large enough that a file's fixed part does not count."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embed = nn.Embedding(20_000, 96)
        make: dict[str, Any] = {
            "linear": lambda: nn.Linear(96, 96),
            "conv": lambda: nn.Conv1d(96, 96, 3, padding=1),
            "attention": lambda: nn.MultiheadAttention(96, 4, batch_first=True),
        }
        self.layers = nn.ModuleList(make[kind]() for _ in range(4))
        self.head = nn.Linear(96, 20_000, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        for layer in self.layers:
            if self.kind == "conv":
                hidden = hidden + layer(hidden.transpose(1, 2)).transpose(1, 2)
            elif self.kind == "attention":
                hidden = hidden + layer(hidden, hidden, hidden, need_weights=False)[0]
            else:
                hidden = hidden + layer(hidden)
        found: Tensor = self.head(hidden)
        return found


@pytest.mark.parametrize(
    "config",
    [{}, {"factor": 64}, {"tie": "none"}, {"anchor": 4.0}, {"method": "own"}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["linear", "conv", "attention"])
def test_an_onnx_file_holds_what_is_stored(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = embshare.share_from_embedding(Stack(kind), embshare.ShareConfig(**config)).eval()
    ids = torch.arange(14).view(2, 7)
    torch.onnx.export(model, (ids,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size <= 1.05 * embshare.summarize(model).bytes
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(ids), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pair", ALL)
def test_functional_calls(pair: Both) -> None:
    model = shared(pair).eval()
    before = output(model, pair)
    other = {n: p.detach() + 0.1 * torch.randn_like(p) for n, p in model.named_parameters()}
    found = torch.func.functional_call(model, other, (), pair[0].inputs)
    twin = copy.deepcopy(model)
    scales = {name: t for name, t in model.state_dict().items() if ".scales." in name}
    twin.load_state_dict(other | scales, strict=False)
    torch.testing.assert_close(
        found if isinstance(found, Tensor) else found.logits, output(twin, pair)
    )
    assert torch.equal(output(model, pair), before)


def test_transforms() -> None:
    pair = (next(e for e in LAYERS if e.name == "linear"), "veps")
    model = shared(pair).eval()
    wanted = model(IDS)
    torch.testing.assert_close(torch.func.vmap(lambda row: model(row[None])[0])(IDS), wanted)
    table = model.embed.weight

    def loss(weight: Tensor) -> Tensor:
        found = torch.func.functional_call(model, {"embed.weight": weight}, (IDS,))
        result: Tensor = found.square().mean()
        return result

    direction = torch.randn_like(table)
    slope = torch.func.jvp(loss, (table.detach(),), (direction,))[1]
    (gradient,) = torch.autograd.grad(loss(table), table, create_graph=True)
    torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-3, atol=1e-6)
    second = torch.autograd.grad((gradient * direction).sum(), table)[0]
    reference = torch.func.jvp(torch.func.grad(loss), (table.detach(),), (direction,))[1]
    torch.testing.assert_close(second, reference, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pair", ALL)
def test_threads(pair: Both) -> None:
    model = shared(pair).eval()
    wanted, wrong = output(model, pair).detach(), []

    def run() -> None:
        for _ in range(5):
            with torch.no_grad():
                if not torch.allclose(output(model, pair), wanted, atol=1e-5):
                    wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not require_bank(model).cache._scopes
    assert torch.equal(output(model, pair), wanted)


@pytest.mark.parametrize("pair", ALL)
def test_autocast_casts_once(pair: Both) -> None:
    model = shared(pair)
    with torch.autocast("cpu", torch.bfloat16):
        bank = require_bank(model)
        bank.evaluations = 0
        casts = {r.cast for r in bank.readers}
        dtypes = {True: torch.bfloat16, False: torch.float32}
        assert {w.dtype for w in derived(model)} == {dtypes[cast] for cast in casts}
        assert casts == {pair[0].name not in AS_STORED}
        bank.evaluations = 0
        output(model, pair).float().square().mean().backward()
        assert bank.evaluations == len(bank.plan.sources)
    assert all(p.grad.dtype is torch.float32 for p in model.parameters() if p.grad is not None)
    assert {w.dtype for w in derived(model)} == {torch.float32}


@pytest.mark.parametrize("pair", ALL)
def test_from_meta_to_memory(pair: Both) -> None:
    model = shared(pair).eval()
    plan = require_bank(model).plan
    with torch.device("meta"):
        empty = embshare.share_from_embedding(pair[0].build(), plan, rules=pair[0].rules)
    assert all(p.is_meta for p in empty.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        filled = empty.to_empty(device="cpu").eval()
    filled.load_state_dict(state)
    for name, buffer in model.named_buffers():  # those that no state dict holds
        filled.get_buffer(name).copy_(buffer)
    assert all(torch.equal(a, b) for a, b in zip(derived(filled), derived(model), strict=True))
    torch.testing.assert_close(output(filled, pair), output(model, pair))


@pytest.mark.parametrize("inside", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("pair", ALL)
def test_without_gradients(pair: Both, inside: Any) -> None:
    model = shared(pair).eval()
    wanted = output(model, pair)
    with inside():
        torch.testing.assert_close(output(model, pair), wanted)
        assert not output(model, pair).requires_grad
    output(model, pair).square().mean().backward()
    assert all(torch.isfinite(g).all() for g in gradients(model).values())


@pytest.mark.parametrize("pair", ALL)
def test_an_exception_inside_leaves_nothing(pair: Both) -> None:
    model = shared(pair).eval()
    wanted = output(model, pair)

    def fail(*_: Any) -> None:
        raise KeyError("inside")

    layers = {layer for reader in require_bank(model).readers for layer, _ in reader.places}
    handles = [layer.register_forward_hook(fail) for layer in layers]
    with pytest.raises(KeyError):
        output(model, pair)
    for handle in handles:
        handle.remove()
    assert not require_bank(model).cache._scopes
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    assert not torch.equal(output(model, pair), wanted)


class Own(nn.Module):
    """A head that the model writes by itself."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        hidden, table = self.layer(self.embed(ids)), self.embed.weight
        ways: dict[str, Any] = {
            "linear": lambda: nn.functional.linear(hidden, table),
            "t()": lambda: hidden @ table.t(),
            "T": lambda: torch.matmul(hidden, table.T),
            "einsum": lambda: torch.einsum("btd,vd->btv", hidden, table),
        }
        found: Tensor = ways[self.way]()
        return found


@pytest.mark.parametrize("way", ["linear", "t()", "T", "einsum"])
def test_heads_tied_in_a_models_own_way_follow_the_factor(way: str) -> None:
    found = []
    for each in ("linear", way):
        torch.manual_seed(0)
        model = embshare.share_from_embedding(Own(each), embshare.ShareConfig(factor=5))
        result = model(IDS)
        result.square().mean().backward()
        found.append((result, gradients(model)))
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(IDS), result)
        assert max(p.numel() for p in model.parameters()) == VOCABULARY * 5
    torch.testing.assert_close(found[0][0], found[1][0])
    for name, slope in found[1][1].items():
        torch.testing.assert_close(slope, found[0][1][name])


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_adapters_on_top(name: str) -> None:
    peft = pytest.importorskip("peft")
    pair = (next(e for e in MODELS if e.name == name), "veps")
    model = shared(pair)
    wanted = output(model, pair).detach()
    target = {"bert": ["query", "value"], "gpt2": ["c_attn"], "t5": ["q", "v"]}[name]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=target))
    require_bank(model).evaluations = 0
    found = output(adapted, pair)
    assert require_bank(model).evaluations == 1
    torch.testing.assert_close(found, wanted)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        output(adapted, pair).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = output(adapted, pair)
    assert not torch.equal(moved, wanted)
    merged = embshare.materialize(adapted).merge_and_unload()
    torch.testing.assert_close(output(merged, pair), moved, rtol=1e-4, atol=1e-5)


def test_quantisation_after() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    pair = (next(e for e in MODELS if e.name == "transformer-encoder"), "veps")
    model = shared(pair).eval()
    plain = embshare.materialize(model)
    quantization.quantize_(plain, quantization.Int8WeightOnlyConfig(version=2))
    wanted = output(model, pair)
    assert float((output(plain, pair) - wanted).norm() / wanted.norm()) < 0.05
