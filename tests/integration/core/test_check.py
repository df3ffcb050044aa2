"""`embshare.check` finds each kind where it is made to happen."""

import copy
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import embshare
from embshare import Findings, ShareConfig, check
from embshare.checks.kinds import KINDS
from embshare.errors import InvalidValueError
from tests.integration.core.test_computed import IDS, LM, D, V, pruned

pytestmark = [
    pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning"),
    pytest.mark.filterwarnings("ignore::embshare.errors.PartCopyWarning"),
    pytest.mark.filterwarnings("ignore::embshare.errors.UnevenCoverageWarning"),
]


class Tied(LM):
    """A head tied to the table."""

    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.embed.weight


def shared(kind: type[LM] = LM, **settings: Any) -> Any:
    torch.manual_seed(0)
    return embshare.share_from_embedding(kind(), ShareConfig(**{"tie": "all"} | settings))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def kinds(model: nn.Module, optimizer: Any = None) -> tuple[str, ...]:
    return check(model, optimizer).kinds


def only(model: nn.Module, kind: str, optimizer: Any = None) -> str:
    """The place of the one finding that there has to be."""
    findings = check(model, optimizer)
    assert findings.kinds == (kind,), str(findings)
    return findings[0].place


def test_a_healthy_model_has_no_findings() -> None:
    model = shared()
    assert check(model, sgd(model)) == ()
    assert str(check(model)) == "Nothing found."


def test_findings_are_sentences_and_tables() -> None:
    model = shared()
    model.embed = nn.Embedding(V, D)
    finding = check(model)[0]
    assert finding.hint == KINDS["table-replaced"].hint
    for part in (finding.place, finding.finding, finding.consequence, finding.hint):
        assert part in str(finding)
    table = str(check(model))
    assert "embed.weight" in table and "hint" in table
    assert max(map(len, table.splitlines())) <= 120
    assert isinstance(check(model), Findings)
    assert hash(finding) == hash(check(model)[0])


def test_nothing_is_derived_run_or_changed() -> None:
    model = shared(factor=5, residual_rank=2)
    optimizer = sgd(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys = {name: set(module.__dict__) for name, module in model.named_modules()}
    before = model.embshare_bank.evaluations
    model.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    check(model, optimizer)
    assert model.embshare_bank.evaluations == before
    assert keys == {name: set(module.__dict__) for name, module in model.named_modules()}
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("model", [None, LM, "model"])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(InvalidValueError, match="`model`"):
        check(model)


@pytest.mark.parametrize("optimizer", [3, "adam", [nn.Linear(2, 2)]])
def test_what_is_no_optimizer_is_refused(optimizer: Any) -> None:
    with pytest.raises(InvalidValueError, match="`optimizer`"):
        check(shared(), optimizer)


# ------------------------------------------------------------------ tables


def test_a_replaced_table() -> None:
    model = shared()
    model.embed = nn.Embedding(V, D)
    assert only(model, "table-replaced") == "embed.weight"


def test_a_table_of_another_width() -> None:
    model = shared()
    model.embed.weight = nn.Parameter(torch.randn(V, D + 1))
    assert "table-replaced" in kinds(model)


def test_a_table_that_is_gone() -> None:
    model = shared()
    del model.embed.weight
    assert "table-replaced" in kinds(model)


def test_a_shrunk_table() -> None:
    model = shared()
    model.embed.weight = nn.Parameter(torch.randn(V - 1, D))
    assert only(model, "table-shrunk") == "embed.weight"


def test_a_table_that_grew_is_fine() -> None:
    model = shared()
    model.embed.weight = nn.Parameter(torch.randn(V + 5, D))
    assert kinds(model) == ()


def test_a_table_that_an_adapter_copied() -> None:
    peft = pytest.importorskip("peft")
    model = shared(exclude=("head.weight",))
    config = peft.LoraConfig(target_modules=["head"], modules_to_save=["embed"])
    wrapped = peft.get_peft_model(model, config)
    assert "table-copied" in kinds(wrapped)
    plain = peft.get_peft_model(
        shared(exclude=("head.weight",)), peft.LoraConfig(target_modules=["head"])
    )
    assert kinds(plain) == ()
    rows = peft.get_peft_model(
        shared(exclude=("head.weight",)), peft.LoraConfig(target_modules=["embed", "head"])
    )
    assert kinds(rows) == ()


def test_a_pruned_table() -> None:
    model = shared()
    pruned(model)
    assert only(model, "table-computed") == "embed.weight"
    prune.remove(model.embed, "weight")
    assert kinds(model) == ()


def test_a_table_that_is_renormed() -> None:
    model = shared()
    model.embed.max_norm = 1.0
    assert only(model, "table-renormed") == "embed.weight"


def test_a_lost_tie() -> None:
    model = shared(Tied)
    assert kinds(model) == ()
    model.to_empty(device="cpu").load_state_dict(shared(Tied).state_dict())
    assert kinds(model) == ()  # which ties again
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    assert only(model, "tie-lost") == "head.weight"


def test_a_head_for_other_classes_is_no_lost_tie() -> None:
    model = shared(Tied)
    model.head = nn.Linear(D, 4)
    assert kinds(model) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["embed.weight", "embshare_bank.sources.0.projection", "embed.factor.weight"]
)
def test_numbers_that_are_not_finite(name: str, value: float) -> None:
    model = shared(factor=5)
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[3] = value
    assert only(model, "non-finite") == name


def test_other_numbers_that_are_not_finite() -> None:
    model = shared()
    nn.init.constant_(model.head.bias, float("nan"))
    assert only(model, "non-finite") == "head.bias"


def test_rows_that_weights_are_not_derived_from_say_nothing_of_a_table() -> None:
    model = shared()
    nn.init.zeros_(model.embed.weight)
    model.embed.weight = nn.Parameter(torch.cat([model.embed.weight, torch.ones(2, D)]))
    assert only(model, "constant") == "embed.weight"


@pytest.mark.parametrize("name", ["embed.weight", "embshare_bank.sources.0.projection"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_numbers_that_are_all_the_same(name: str, value: float) -> None:
    model = shared()
    nn.init.constant_(model.get_parameter(name), value)
    assert only(model, "constant") == name


def test_parameters_on_meta_among_others() -> None:
    model = shared()
    model.embed.weight = nn.Parameter(model.embed.weight.detach().to("meta"))
    assert "partly-meta" in kinds(model)
    assert kinds(shared().to("meta")) == ()


# ------------------------------------------------------------------ training


def test_an_optimizer_that_misses_the_projection() -> None:
    model = shared()
    names = [p for n, p in model.named_parameters() if "embshare" not in n]
    findings = check(model, torch.optim.AdamW(names))
    assert findings.kinds == ("optimizer-misses",)
    assert "sources.0.projection" in findings[0].finding
    with_rest = [torch.optim.AdamW(names), torch.optim.SGD(model.embshare_bank.parameters(), 0.1)]
    assert check(model, with_rest) == ()


@pytest.mark.parametrize(
    ("settings", "part"),
    [({"residual_rank": 2}, "relaxations"), ({"factor": 5}, "factor"), ({}, "embed.weight")],
)
def test_an_optimizer_that_misses_something(settings: dict[str, Any], part: str) -> None:
    model = shared(**settings)
    rest = [p for n, p in model.named_parameters() if part not in n]
    assert only(model, "optimizer-misses", torch.optim.SGD(rest, lr=0.1)) == "SGD"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part not in name)
    assert "optimizer-misses" not in kinds(model, torch.optim.SGD(rest, lr=0.1))


def test_an_optimizer_of_the_dense_model() -> None:
    model = LM()
    optimizer = sgd(model)
    embshare.share_from_embedding(model, ShareConfig(tie="all"))
    assert kinds(model, optimizer) == ("optimizer-stale", "optimizer-misses")


def test_an_optimizer_of_a_copy() -> None:
    model = shared()
    assert only(model, "optimizer-foreign", sgd(copy.deepcopy(model))) == "SGD"


def test_a_sparse_optimizer() -> None:
    model = shared()
    rest = [p for p in model.parameters() if p is not model.embed.weight]
    both = [torch.optim.SparseAdam([model.embed.weight]), torch.optim.SGD(rest, lr=0.1)]
    assert only(model, "optimizer-sparse", both) == "embed.weight"


def test_layers_that_were_frozen() -> None:
    model = shared()
    model.enc.requires_grad_(False)
    assert only(model, "frozen-moves") == "enc"
    embshare.freeze(model, "enc.*")
    assert kinds(model) == ()
    model(IDS)  # nor does a call warn


def test_gains_that_were_frozen() -> None:
    model = shared(gain="learned")
    model.embshare_bank.relaxations.requires_grad_(False)
    assert only(model, "gains-frozen") == "embshare_bank"


def test_nothing_that_is_trained() -> None:
    model = shared().requires_grad_(False)
    assert only(model, "nothing-trained") == "LM"
    assert kinds(model.eval()) == ()


def test_data_parallel() -> None:
    assert only(nn.DataParallel(shared()), "data-parallel") == "DataParallel"


def test_quantisation_that_was_asked_for() -> None:
    model = shared()
    model.qconfig = torch.ao.quantization.default_qconfig
    assert only(model, "quantised") == "LM"


# ------------------------------------------------------------------ layers and copies


def test_a_dense_model() -> None:
    assert only(LM(), "not-shared") == "LM"
    assert only(embshare.materialize(shared()), "not-shared") == "LM"


def test_a_model_all_of_whose_layers_were_replaced() -> None:
    model = shared()
    model.enc, model.head = nn.Sequential(nn.Linear(D, D)), nn.Linear(D, V)
    assert "not-shared" in kinds(model)


def test_a_copy_of_a_part_in_another_model() -> None:
    model = shared()
    parent: Any = nn.ModuleDict({"target": copy.deepcopy(model.enc)})
    assert only(parent, "borrowed") == "target"
    assert only(model.enc, "borrowed") == "Sequential"
    embshare.materialize(parent["target"], inplace=True)
    assert only(parent, "not-shared") == "ModuleDict"


def test_a_copy_of_a_part_beside_its_original() -> None:
    model = shared()
    model.enc.append(copy.deepcopy(model.enc[0]))
    assert only(model, "copied") == "enc.3"


def test_a_part_that_was_pickled_alone() -> None:
    file = io.BytesIO()
    torch.save(shared().enc, file)
    file.seek(0)
    assert only(torch.load(file, weights_only=False), "unpickled") == "Sequential"


def test_a_bank_that_was_deleted() -> None:
    model = shared()
    del model.embshare_bank
    assert "bank-lost" in kinds(model)


def test_a_model_rebuilt_from_its_children() -> None:
    assert "bank-lost" in kinds(nn.Sequential(*shared().children()))


def test_a_forward_that_passes_the_call() -> None:
    model = shared()
    model.forward = functools.partial(LM.forward, model)
    assert only(model, "call-lost") == "LM"


def wrapped_by_closure(model: LM) -> None:
    old = model.forward

    @functools.wraps(old)
    def forward(ids: Tensor) -> Tensor:
        return old(ids)

    model.forward = forward  # type: ignore[method-assign]


def wrapped_by_partial(model: LM) -> None:
    def run(old: Callable[..., Tensor], ids: Tensor) -> Tensor:
        return old(ids)

    model.forward = functools.partial(run, model.forward)  # type: ignore[method-assign]


def wrapped_by_compile(model: LM) -> None:
    model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]


def compiled_in_place(model: LM) -> None:
    model.compile(backend="eager")


def wrapped_by_accelerate(model: LM) -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    hooks.add_hook_to_module(model, hooks.ModelHook())


@pytest.mark.parametrize(
    "wrap",
    [
        wrapped_by_closure,
        wrapped_by_partial,
        wrapped_by_compile,
        compiled_in_place,
        wrapped_by_accelerate,
    ],
)
def test_a_forward_that_is_wrapped_is_fine(wrap: Callable[[LM], None]) -> None:
    model = shared()
    wrap(model)
    assert kinds(model) == ()


def test_a_table_that_was_cast_alone() -> None:
    model = shared()
    model.embed.to(torch.bfloat16)
    assert only(model, "dtype-clash") == "enc.0.weight"


def test_layers_that_were_cast_alone() -> None:
    model = shared()
    model.enc.to(torch.bfloat16)
    assert only(model, "cast") == "enc.0.weight"
    assert kinds(model.to(torch.bfloat16)) == ()


# ------------------------------------------------------------------ saving, size


def test_hooks_that_were_cleared() -> None:
    model = shared()
    model._load_state_dict_pre_hooks.clear()
    assert kinds(model) == ("loading-unchecked", "aliases-shown")
    model = shared()
    model._state_dict_hooks.clear()
    assert only(model, "aliases-shown") == "LM"


def test_a_copied_layer_that_no_plan_can_say() -> None:
    model = shared(residual_rank=2)
    model.enc.append(copy.deepcopy(model.enc[0]))
    assert kinds(model) == ("copied", "unsaveable")


def test_growth() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 12), nn.Linear(12, 12))
    embshare.share_from_embedding(model)
    assert only(model, "growth") == "Sequential"


def test_columns_that_nothing_reads() -> None:
    assert only(shared(width=40), "unused-columns") == "LM"


def test_slots_that_nothing_reads() -> None:
    model = shared()
    model.head = nn.Linear(D, 4)
    assert "unread" in kinds(model)
    frozen = shared(residual_rank=1)
    embshare.freeze(frozen, "head.weight")
    assert "unread" not in kinds(frozen)


def test_uneven_coverage() -> None:
    model = shared(exclude=("enc.0.weight",))
    assert only(model, "uneven") == "LM"


def test_a_poor_fit() -> None:
    torch.manual_seed(0)
    config = ShareConfig(init="svd", tie="all")
    model = embshare.share_from_embedding(LM(), config)
    assert only(model, "poor-fit") == "LM"
    good = embshare.share_from_embedding(LM(), ShareConfig(init="svd", residual_rank=12))
    assert "poor-fit" not in kinds(good)


# ------------------------------------------------------------------ where it looks


def test_several_shared_models_at_any_depth() -> None:
    parent: Any = nn.ModuleDict({"student": shared(), "teacher": nn.Sequential(shared())})
    assert kinds(parent) == ()
    nn.init.zeros_(parent["teacher"][0].embed.weight)
    assert only(parent, "constant") == "teacher.0.embed.weight"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a compiler that looks at everything
def test_through_wrappers() -> None:
    model = shared()
    compiled: Any = torch.compile(model, backend="eager")
    compiled(IDS)
    assert kinds(compiled, sgd(compiled)) == ()
    model.enc.requires_grad_(False)
    assert only(compiled, "frozen-moves") == "_orig_mod.enc"


def test_a_look_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shared()
    del model.embshare_bank.scales.plan
    findings = check(model)
    assert "unseen" in findings.kinds
    assert "AttributeError" in str(findings)


def test_what_was_loaded_is_as_what_was_saved(tmp_path: Path) -> None:
    embshare.save(shared(), tmp_path)
    assert kinds(embshare.load(tmp_path, LM)) == ()
