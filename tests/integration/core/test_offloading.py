"""Shared models that are moved: offloaded, dispatched, called by threads, sent to processes."""

from __future__ import annotations

import copy
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DataParallel, replicate
from torch.utils.data import DataLoader

import embshare
from embshare import ShareConfig
from embshare.errors import DerivedWeightError, OffloadedError
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import CONFIGS, EXAMPLES, IDS, VOCABULARY, WIDTH, Example
from tests._support.workers import LM, Scores, answer, answer_next, change
from tests.conformance.cases import output, shared

accelerate = pytest.importorskip("accelerate")
hooks = pytest.importorskip("accelerate.hooks")

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

CPU = torch.device("cpu")


def sequential() -> nn.Module:
    """The bank is in the embedding, for a Sequential runs whatever it has."""
    layers = nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, VOCABULARY)
    return nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), *layers)


POSITIONAL = Example("sequential", lambda: _Named(sequential()))


class _Named(nn.Module):
    """Takes its input by name, as all examples do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.inner(ids)
        return found


def dispatched(*devices: str) -> Callable[[nn.Module, Path], object]:
    """Children in turn on these devices."""

    def way(model: nn.Module, folder: Path) -> object:
        names = [name for name, _ in model.named_children()]
        places = {name: devices[i % len(devices)] for i, name in enumerate(names)}
        places |= {name: devices[0] for name, _ in model.named_parameters(recurse=False)}
        return accelerate.dispatch_model(model, places, offload_dir=folder)

    return way


def preloaded(model: nn.Module, folder: Path) -> object:
    """All of it is there from the beginning of a call to its end."""
    classes = [type(model).__name__]
    return accelerate.disk_offload(
        model, folder, execution_device=CPU, preload_module_classes=classes
    )


WAYS: dict[str, Callable[[Any, Path], object]] = {
    "cpu": lambda model, _: accelerate.cpu_offload(model, execution_device=CPU),
    "disk": lambda model, folder: accelerate.disk_offload(model, folder, execution_device=CPU),
    "aligned": lambda model, _: hooks.attach_align_device_hook(model, CPU, offload=True),
    "one-device": lambda model, _: accelerate.dispatch_model(model, {"": "cpu"}),
    "hooked": lambda model, _: accelerate.dispatch_model(model, {"": "cpu"}, force_hooks=True),
    "table-on-disk": dispatched("disk", "cpu"),
    "layers-on-disk": dispatched("cpu", "disk"),
    "preloaded": preloaded,
    "with-hook": lambda model, _: accelerate.cpu_offload_with_hook(model, CPU),
}
TOYS = (
    Example("toy", LM),
    Example("toy-tied", lambda: LM(tied=True)),
    POSITIONAL,
)
NAMES = (
    "linear conv2d lstm-deep rnn attention-split weight-norm experts bert gpt2 transformer-encoder"
)
KINDS = [e for e in EXAMPLES if e.name in NAMES.split()]
assert len(KINDS) == len(NAMES.split())
PAIRS = [
    pytest.param((e, c), id=f"{e.name}-{c}")
    for e in (*TOYS, *KINDS)
    for c in (CONFIGS if e in TOYS else ("factor", "relaxed"))
]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.ERROR)  # accelerate says that parameters are on meta
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        yield


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", PAIRS)
def test_an_offloaded_model_computes_the_same_to_the_last_bit(
    pair: tuple[Example, str], way: str, tmp_path: Path
) -> None:
    model = shared(pair).eval()
    wanted = output(model, pair).detach()
    names = list(model.state_dict())
    WAYS[way](model, tmp_path / "away")
    for _ in range(3):
        assert torch.equal(output(model, pair), wanted)
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(output(model, pair), wanted)
    assert list(model.state_dict()) == names and not any(p.is_meta for p in model.parameters())
    embshare.save(model, tmp_path / "kept")
    loaded = embshare.load(tmp_path / "kept", pair[0].build()).eval()
    torch.testing.assert_close(output(loaded, pair), wanted)
    if pair[0].name == "toy-tied":
        assert model.head._parameters["weight"] is model.embed._parameters["weight"]


OFFLOADED = [way for way in WAYS if way not in ("one-device", "hooked", "with-hook")]


@pytest.mark.parametrize("way", [way for way in OFFLOADED if way != "preloaded"])
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
@pytest.mark.parametrize("tied", [False, True])
def test_parts_of_an_offloaded_model_on_their_own(
    config: str, tied: bool, way: str, tmp_path: Path
) -> None:
    model, hidden = embshare.share_from_embedding(LM(tied), CONFIGS[config]), torch.randn(3, WIDTH)
    wanted = model.enc(hidden), model.enc[0](hidden), model.enc[0].weight, model.embed(IDS)
    WAYS[way](model, tmp_path)
    found = model.enc(hidden), model.enc[0](hidden), model.enc[0].weight, model.embed(IDS)
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("way", OFFLOADED)
def test_kept_weights_of_an_offloaded_model(way: str, tmp_path: Path) -> None:
    """Its parameters are other objects at each call, and still the same."""
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS["relaxed"]).eval()
    wanted, bank = model(IDS), require_bank(model)
    WAYS[way](model, tmp_path)
    bank.evaluations = 0
    with embshare.cached(model), torch.no_grad():
        assert all(torch.equal(model(IDS), wanted) for _ in range(3))
    assert bank.evaluations == 1
    with torch.inference_mode():
        assert torch.equal(model(IDS), wanted)


def test_a_change_of_what_is_kept_away_is_noticed() -> None:
    model = embshare.share_from_embedding(LM()).eval()
    twin = copy.deepcopy(model)
    state = model.state_dict()
    accelerate.cpu_offload(model, execution_device=CPU, state_dict=state)
    with embshare.cached(model), pytest.warns(embshare.errors.StaleCacheWarning):
        model(IDS)
        with torch.no_grad():
            state["embed.weight"].mul_(2)
            twin.embed.weight.mul_(2)
        assert torch.equal(model(IDS), twin(IDS))
    hooks.remove_hook_from_module(model, recurse=True)
    with torch.no_grad():
        model.embed.weight.mul_(2)
        twin.embed.weight.mul_(2)
    assert torch.equal(model(IDS), twin(IDS))


@pytest.mark.parametrize("way", OFFLOADED)
def test_a_copy_of_an_offloaded_model(way: str, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(LM(tied=True)).eval()
    wanted = model(IDS)
    WAYS[way](model, tmp_path)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(IDS), wanted)
    hooks.remove_hook_from_module(twin, recurse=True)
    assert twin.head.weight is twin.embed.weight and not twin.embed.weight.is_meta
    assert torch.equal(model(IDS), wanted)
    assert model.embed.weight.is_meta == (way != "layers-on-disk")


def test_autocast_of_an_offloaded_model() -> None:
    model = embshare.share_from_embedding(LM(tied=True)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        wanted = model(IDS)
        accelerate.cpu_offload(model, execution_device=CPU)
        assert torch.equal(model(IDS), wanted)


@pytest.mark.parametrize("moved", ["embed", "embshare_bank", "enc", "head"])
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
def test_a_part_may_be_offloaded_alone(moved: str, config: str) -> None:
    model = embshare.share_from_embedding(LM(), CONFIGS[config]).eval()
    wanted = model(IDS)
    accelerate.cpu_offload(model.get_submodule(moved), execution_device=CPU)
    assert torch.equal(model(IDS), wanted) and torch.equal(model(IDS), wanted)


class Inner(nn.Module):
    """Holds the table, which is moved with it as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.tokens(ids)
        return found


@pytest.mark.parametrize("config", ["veps", "factor"])
def test_a_table_in_a_class_that_is_moved_as_a_whole(config: str, tmp_path: Path) -> None:
    model = nn.Module()
    model.embed, model.layer = Inner(), nn.Linear(WIDTH, WIDTH)
    embshare.share_from_embedding(model, CONFIGS[config])
    hidden = torch.randn(3, WIDTH)
    wanted = model.layer(hidden), model.embed(IDS)
    accelerate.disk_offload(
        model, tmp_path, execution_device=CPU, preload_module_classes=["Inner", "Linear"]
    )
    assert all(map(torch.equal, (model.layer(hidden), model.embed(IDS)), wanted))
    hooks.remove_hook_from_module(model, recurse=True)
    assert "_embshare_covered" not in model.embed.tokens.__dict__
    assert all(map(torch.equal, (model.layer(hidden), model.embed(IDS)), wanted))


@pytest.mark.parametrize("places", [{"": "cpu"}, {"": "disk"}, None], ids=str)
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_that_is_loaded_and_dispatched(
    tied: bool, config: str, places: dict[str, str] | None, tmp_path: Path
) -> None:
    model = embshare.share_from_embedding(LM(tied), CONFIGS[config]).eval()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with accelerate.init_empty_weights():
        empty = LM()
    if tied:  # as accelerate has it: after the context, which ends ties
        empty.head.weight = empty.embed.weight
    plan = require_bank(model).plan
    empty = embshare.share_from_embedding(empty, plan).eval()
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    names = [name for name, _ in empty.named_children()]
    if places is None:
        places = {name: ("disk", "cpu")[i % 2] for i, name in enumerate(names)}
    elif places == {"": "disk"}:
        places = dict.fromkeys(names, "disk")
    loaded = accelerate.load_checkpoint_and_dispatch(
        empty, str(tmp_path), device_map=places, offload_folder=str(tmp_path / "away")
    )
    assert torch.equal(loaded(IDS), model(IDS)) and torch.equal(loaded(IDS), model(IDS))


# ------------------------------------------------------------------ refused


def test_a_map_over_several_devices_is_refused_before_anything_moves() -> None:
    model = embshare.share_from_embedding(LM())
    wanted = model(IDS)
    places: dict[str, Any] = {"embed": "cpu", "enc": "meta", "head": "cpu", "embshare_bank": "cpu"}
    with pytest.raises(OffloadedError, match="the device map says meta") as caught:
        accelerate.dispatch_model(model, places, main_device="cpu")
    assert caught.value.place == "enc.0" and "Name one device" in caught.value.hint
    assert not any(hasattr(module, "_hf_hook") for module in model.modules())
    assert torch.equal(model(IDS), wanted)


def test_a_parameter_that_has_values_nowhere_is_refused(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(LM(tied=True))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with accelerate.init_empty_weights():
        empty = LM(tied=True)  # the context ends the tie
    embshare.share_from_embedding(empty, require_bank(model).plan)
    places = dict.fromkeys(dict(empty.named_children()), "disk")
    with pytest.raises(OffloadedError, match="tie_weights") as caught:
        accelerate.load_checkpoint_and_dispatch(
            empty, str(tmp_path), device_map=places, offload_folder=str(tmp_path / "away")
        )
    assert caught.value.place == "head.weight"


def test_an_older_norm_is_refused_before_anything_moves(tmp_path: Path) -> None:
    """Its weight is computed before accelerate brings back what it is computed from."""
    example = next(e for e in EXAMPLES if e.name == "old-weight-norm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = shared((example, "veps")).eval()
    wanted = output(model, (example, "veps"))
    for way in ("cpu", "disk", "aligned"):
        with pytest.raises(OffloadedError, match="WeightNorm") as caught:
            WAYS[way](model, tmp_path)
        assert caught.value.place == "layer"
        assert not any(p.is_meta for p in model.parameters())
        hooks.remove_hook_from_module(model, recurse=True)
        assert torch.equal(output(model, (example, "veps")), wanted)


@pytest.mark.parametrize("inplace", [False, True])
def test_what_needs_all_values_is_refused(inplace: bool, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(LM(tied=True))
    wanted = model(IDS)
    accelerate.cpu_offload(model, execution_device=CPU)
    with pytest.raises(OffloadedError, match="remove_hook_from_module"):
        embshare.materialize(model, inplace=inplace)
    with pytest.raises(OffloadedError, match="to save this model"):
        embshare.save(model, tmp_path / "kept")
    assert not (tmp_path / "kept").exists() and torch.equal(model(IDS), wanted)
    dense = accelerate.cpu_offload(LM(), execution_device=CPU)
    with pytest.raises(OffloadedError, match="to share this model"):
        embshare.share_from_embedding(dense, inplace=inplace)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_an_offloaded_model_of_transformers(name: str, tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if e.name == name)
    model = shared((example, "veps")).eval()
    accelerate.cpu_offload(model, execution_device=CPU)
    with pytest.raises(OffloadedError, match="to save this model"):
        model.save_pretrained(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    if name != "gpt2":
        return
    away = model.generate(IDS[:, :3], max_new_tokens=4, do_sample=False)
    hooks.remove_hook_from_module(model, recurse=True)
    assert torch.equal(away, model.generate(IDS[:, :3], max_new_tokens=4, do_sample=False))


@pytest.mark.parametrize("part", ["embed", "embshare_bank"])
@pytest.mark.parametrize(
    "config", [ShareConfig(), ShareConfig(column_bias=True), ShareConfig(factor=5), CONFIGS["eps"]]
)
def test_a_table_without_values_is_never_read(part: str, config: ShareConfig) -> None:
    """Torch multiplies what is in memory with what is on meta, and returns what it finds there."""
    model = LM()
    if config.method == "eps":
        model.embed = nn.Embedding(700, WIDTH)
    embshare.share_from_embedding(model, config)
    before = model.get_submodule(part).state_dict()
    if not any(True for _ in model.get_submodule(part).parameters()):
        pytest.skip("EPS stores nothing but the table")
    model.get_submodule(part).to("meta")
    hidden = torch.randn(3, WIDTH)
    for read in (
        lambda: model.enc(hidden),
        lambda: model.enc[0](hidden),
        lambda: model.enc[0].weight,
        lambda: model(IDS),
    ):
        with pytest.raises(OffloadedError, match="no hook of accelerate") as caught:
            read()
        assert caught.value.place == "embed.weight"
    assert not require_bank(model).cache._scopes
    model.get_submodule(part).load_state_dict(before, assign=True)
    assert model(IDS).isfinite().all()


def test_a_whole_model_on_meta_has_shapes() -> None:
    model = embshare.share_from_embedding(LM()).to("meta")
    assert model(IDS.to("meta")).shape == (2, 6, VOCABULARY)
    assert model.enc[0].weight.shape == (WIDTH, WIDTH)


# ------------------------------------------------------------------ threads


@pytest.fixture
def _often() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(count: int, run: Callable[[int], None]) -> None:
    """Run in many threads at once; what one raises is raised."""
    raised: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            run(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error


THREADS = {
    "plain": lambda number: False,
    "each with its own `cached`": lambda number: True,
    "half with its own `cached`": lambda number: bool(number % 2),
}


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
@pytest.mark.parametrize("kept", THREADS.values(), ids=THREADS)
def test_sixteen_threads(kept: Callable[[int], bool], config: str) -> None:
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS[config]).eval()
    wanted, bank = model(IDS).detach(), require_bank(model)

    @torch.no_grad()
    def run(number: int) -> None:
        for _ in range(20):
            if kept(number):
                with embshare.cached(model):
                    assert torch.equal(model(IDS), wanted) and torch.equal(model(IDS), wanted)
            else:
                assert torch.equal(model(IDS), wanted)

    together(16, run)
    assert not bank.cache._scopes and bank.cache.keeper.blocks == 0
    next(model.parameters()).data.mul_(2)  # seen, since no block is open any more
    assert not torch.equal(model(IDS), wanted)


@pytest.mark.usefixtures("_often")
def test_threads_with_and_without_autocast() -> None:
    model = embshare.share_from_embedding(LM()).eval()
    wanted = model(IDS).detach()
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(IDS).detach()

    @torch.no_grad()
    def run(number: int) -> None:
        for _ in range(30):
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(number % 2)):
                assert torch.equal(model(IDS), cast if number % 2 else wanted)

    together(16, run)


@pytest.mark.usefixtures("_often")
def test_threads_that_train() -> None:
    """Gradients of all threads are added, as those of an ordinary model are."""
    model = embshare.share_from_embedding(LM(tied=True))
    model(IDS).sum().backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    together(8, lambda _: model(IDS).sum().backward())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 8 * wanted[name])


# ------------------------------------------------------------------ processes

CONTEXTS = ("fork", pytest.param("spawn", marks=pytest.mark.slow))


def asked(context: str, target: Callable[..., None], model: nn.Module) -> tuple[Tensor, list[str]]:
    """What another process says of a model."""
    start: Any = multiprocessing.get_context(context)
    answers = start.Queue()
    process = start.Process(target=target, args=(model, answers))
    process.start()
    scores, names = answers.get(timeout=120)
    process.join()
    return torch.from_numpy(scores), names


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_model_in_another_process(kept: bool, config: str, context: str) -> None:
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS[config])
    wanted, names = model(IDS), [name for name, _ in model.named_parameters()]
    for _ in range(2):
        with embshare.cached(model if kept else nn.Identity()):
            assert torch.equal(model(IDS), wanted)
            scores, found = asked(context, answer, model)
        assert torch.equal(scores, wanted) and found == names


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("config", ["veps", "factor", "relaxed"])
def test_processes_that_share_a_models_memory(config: str, context: str) -> None:
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS[config])
    before = model(IDS)
    assert model.share_memory() is model and all(p.is_shared() for p in model.parameters())
    assert torch.equal(model(IDS), before)
    scores, _ = asked(context, change, model)
    assert torch.equal(model(IDS), scores) and not torch.equal(scores, before)


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_model_through_a_queue(context: str) -> None:
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS["relaxed"])
    start: Any = multiprocessing.get_context(context)
    models, answers = start.Queue(), start.Queue()
    process = start.Process(target=answer_next, args=(models, answers))
    process.start()
    models.put(model)
    scores, names = answers.get(timeout=120)
    process.join()
    assert torch.equal(torch.from_numpy(scores), model(IDS))
    assert names == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_model_in_the_workers_of_a_loader(context: str) -> None:
    model = embshare.share_from_embedding(LM(tied=True), CONFIGS["factor"])
    loader = DataLoader(Scores(model), num_workers=2, multiprocessing_context=context)
    found = list(loader)
    assert len(found) == 4 and all(torch.equal(scores[0], model(IDS)) for scores in found)


# ------------------------------------------------------------------ DataParallel


def test_replicas_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dispatch as on several devices, of which there need not be any here."""

    def broadcast(tensors: Any, devices: Any, detach: bool = False) -> Any:
        return [[tensor.clone() for tensor in tensors] for _ in devices]

    module = sys.modules["torch.nn.parallel.replicate"]
    monkeypatch.setattr(module, "_broadcast_coalesced_reshape", broadcast)
    assert len(replicate(LM(), [0, 1])) == 2
    for example, config in [(TOYS[0], "veps"), (TOYS[1], "factor"), (TOYS[2], "relaxed")]:
        model = shared((example, config)).eval()
        wanted = output(model, (example, config))
        with pytest.raises(DerivedWeightError, match="DistributedDataParallel"):
            replicate(model, [0, 1])
        assert torch.equal(output(model, (example, config)), wanted)


def test_data_parallel_on_one_device_is_the_model() -> None:
    model = embshare.share_from_embedding(LM(tied=True))
    assert torch.equal(
        DataParallel(model, [0] if torch.cuda.is_available() else None)(IDS).cpu(),
        model(IDS.to(model.embed.weight.device)).cpu(),
    )
