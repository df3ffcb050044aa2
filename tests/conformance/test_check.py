"""No false alarms: `embshare.check` finds nothing in healthy models, whatever was done to them."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import embshare
from embshare import check
from embshare.checks.files import check_folder
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import MODELS
from tests.conformance.cases import Both, output, pairwise, shared

VEPS = [pytest.param((e, "veps"), id=e.name) for e in MODELS]
WHOLE = [pytest.param((e, c), id=f"{e.name}-{c}") for e in MODELS for c in ("veps", "relaxed")]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


def true_of(model: nn.Module) -> set[str]:
    """What is no false alarm: toys are small, and some grow."""
    summary = embshare.summarize(model)
    plan = require_bank(model).plan
    found = {"growth"} if summary.stored > summary.stored_before else set()
    found |= {"uneven"} if plan.uneven() else set()
    return found


def healthy(model: nn.Module, pair: Both, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Hold a model to having no findings but those that are so."""
    findings = check(model, optimizer)
    assert set(findings.kinds) == true_of(model), str(findings)


def step(model: nn.Module, pair: Both) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(embshare.parameter_groups(model, lr=1e-3))
    for _ in range(2):
        optimizer.zero_grad()
        output(model, pair).float().square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("pair", pairwise("check"))
def test_when_fresh_trained_copied_and_cast(pair: Both, tmp_path: Path) -> None:
    model = shared(pair)
    healthy(model, pair)
    optimizer = step(model, pair)
    healthy(model, pair, optimizer)
    healthy(copy.deepcopy(model), pair)
    healthy(model.eval().requires_grad_(False), pair)
    embshare.save(model, tmp_path)
    assert set(check_folder(tmp_path).kinds) == true_of(model)
    healthy(embshare.load(tmp_path, pair[0].build()), pair)
    healthy(copy.deepcopy(model).half(), pair)
    healthy(copy.deepcopy(model).to("meta"), pair)


@pytest.mark.parametrize("pair", VEPS)
def test_when_pickled_and_kept(pair: Both) -> None:
    model = shared(pair)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    healthy(torch.load(file, weights_only=False), pair)
    with embshare.cached(model), torch.no_grad():
        output(model.eval(), pair)
        healthy(model, pair)


@pytest.mark.parametrize("pair", WHOLE)
def test_when_compiled(pair: Both) -> None:
    model = shared(pair)
    compiled = torch.compile(model, backend="eager")
    output(compiled, pair)
    healthy(compiled, pair)  # type: ignore[arg-type]
    model.compile(backend="eager")
    output(model, pair)
    healthy(model, pair)


@pytest.fixture
def one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("this torch is not distributed")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_inside_of_ddp() -> None:
    for example in MODELS:
        pair = (example, "relaxed")
        model = nn.parallel.DistributedDataParallel(shared(pair), find_unused_parameters=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        output(model, pair).float().square().mean().backward()
        optimizer.step()
        findings = check(model, optimizer)
        assert set(findings.kinds) == true_of(model.module), str(findings)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("apart", [False, True])
def test_sharded_by_fsdp(apart: bool) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    pair = (next(e for e in MODELS if e.name == "transformer-encoder"), "veps")
    model = shared(pair)
    wanted = true_of(model)
    groups = embshare.fsdp_groups(model, min_parameters=0)
    for module in [model.embed, model] if apart else groups:
        fully_shard(module, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if apart:  # as is found, it cannot be called
        with pytest.raises(RuntimeError, match="mixed"):
            output(model, pair)
        findings = check(model, optimizer)
        assert "sharded-apart" in findings.kinds
        assert [f.place for f in findings if f.kind == "sharded-apart"] == ["embed"]
    else:
        assert set(check(model, optimizer).kinds) == wanted
        output(model, pair).square().mean().backward()
        optimizer.step()
        assert set(check(model, optimizer).kinds) == wanted


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("change", ["save_pretrained", "gradient_checkpointing", "resize", "lora"])
def test_models_of_transformers(name: str, change: str, tmp_path: Path) -> None:
    example = next(e for e in MODELS if e.name == name)
    model = shared((example, "veps"))
    changes: dict[str, Callable[[], nn.Module]] = {
        "save_pretrained": lambda: saved(model, tmp_path),
        "gradient_checkpointing": lambda: model.gradient_checkpointing_enable() or model,
        "resize": lambda: model.resize_token_embeddings(120) and model,
        "lora": lambda: lora(model),
    }
    changed = changes[change]()
    findings = check(changed)
    allowed = {"growth", "uneven"}
    assert set(findings.kinds) <= allowed, str(findings)


def saved(model: nn.Module, folder: Path) -> nn.Module:
    model.save_pretrained(folder)  # type: ignore[operator]
    found: nn.Module = type(model).from_pretrained(folder)  # type: ignore[attr-defined]
    return found


def lora(model: nn.Module) -> nn.Module:
    peft = pytest.importorskip("peft")
    found: nn.Module = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear"))
    return found
