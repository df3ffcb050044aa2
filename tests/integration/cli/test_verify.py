"""`inspect --verify`: each step on models of every family, and each way of getting it wrong."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from embshare.adapters.errors import InputsError
from embshare.adapters.inputs import candidates, find_inputs, inputs_from, score
from embshare.adapters.verify import verify
from embshare.cli import app

STEPS = (
    *("build", "plan", "run dense", "train dense"),
    *("share", "run", "train", "save", "load", "materialize"),
)
MODELS = """
    import torch
    from torch import nn


    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 4)
            self.hidden = nn.Linear(4, 4)
            self.head = nn.Linear(4, 4)

        def forward(self, ids):
            return self.head(self.hidden(self.table(ids)).tanh())


    class Pair(Tagger):
        def forward(self, ids, more):
            if ids.shape != more.shape:
                raise ValueError("of two sizes")
            return super().forward(ids) + super().forward(more)


    class Cut(Tagger):
        def forward(self, ids):
            if self.training and hasattr(self, "embshare_bank"):
                raise TypeError("hidden must be an nn.Linear")
            return super().forward(ids)


    def pair():
        ids = torch.arange(6).view(2, 3)
        return ids, ids


    def named():
        ids = torch.arange(6).view(2, 3)
        return {"ids": ids, "more": ids + 1}


    def number():
        return 3


    def broken():
        raise RuntimeError("no disk")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's with models and inputs, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models_to_verify.py").write_text(textwrap.dedent(MODELS))
    (tmp_path / "breaks.py").write_text("import a_package_that_is_not_there\n")
    yield tmp_path
    sys.modules.pop("models_to_verify", None)


def run(*arguments: object) -> tuple[int, dict[str, str], str]:
    """Exit code, outcome of each step, and all that was said."""
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    found = re.findall(
        r"^ *([a-z]+(?: dense)?) +(ok|failed|not reached) ", result.stdout, re.MULTILINE
    )
    return result.exit_code, dict(found), result.stdout + result.stderr


PASSED = dict.fromkeys(STEPS, "ok")


def test_a_function_of_ones_own_is_verified_and_left_as_it_is(here: Path) -> None:
    code, found, err = run("models_to_verify:Tagger", "--verify")
    assert (code, found) == (0, PASSED), err
    assert "stored parameters" in err


@pytest.mark.parametrize("function", ["pair", "named"])
def test_inputs_are_a_function_in_a_file(here: Path, function: str) -> None:
    given = f"models_to_verify.py:{function}"
    code, found, err = run("models_to_verify:Pair", "--verify", "--input", given)
    assert (code, found) == (0, PASSED), err


def test_where_inputs_cannot_be_made_it_says_how_to_give_them(here: Path) -> None:
    code, found, err = run("models_to_verify:Pair", "--verify")
    assert code == 1
    assert found["run dense"] == "failed" and found["share"] == "not reached"
    assert "InputsError" in err and "--input" in err


def test_a_step_that_fails_is_named_with_what_to_do(here: Path) -> None:
    code, found, err = run("models_to_verify:Cut", "--verify")
    assert code == 1
    assert found == PASSED | {"train": "failed"} | dict.fromkeys(STEPS[7:], "not reached")
    assert "TypeError: hidden must be" in err and "please report" in err


def test_a_model_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=100, intermediate_size=32, architectures=["BertForMaskedLM"], **settings
    )
    config.save_pretrained(tmp_path)
    code, found, err = run(tmp_path, "--verify")
    assert (code, found) == (0, PASSED), err


def test_a_classifier_of_images() -> None:
    pytest.importorskip("torchvision")
    code, found, err = run("torchvision:shufflenet_v2_x0_5", "--verify", "--source", "new:512x16")
    assert (code, found) == (0, PASSED), err


@pytest.mark.fairseq
def test_an_architecture_of_fairseq() -> None:
    code, found, err = run("fairseq:transformer_tiny", "--verify")
    assert (code, found) == (0, PASSED), err


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("models_to_verify:pair", "is not `FILE.py:function`"),
        ("models_to_verify.py", "is not `FILE.py:function`"),
        ("models_to_verify.py:", "is not `FILE.py:function`"),
        ("absent.py:pair", "there is no file `absent.py`"),
        ("models_to_verify.py:piar", "has no function `piar`. Did you mean `pair`?"),
        ("models_to_verify.py:number", "`number()` returned a int. Give some: `--input"),
        ("models_to_verify.py:broken", "`broken()` failed (RuntimeError: no disk)"),
        ("models_to_verify.py:Pair", "`Pair()` returned a Pair"),
        ("breaks.py:pair", "running the file failed (ModuleNotFoundError"),
    ],
)
def test_a_wrong_place_of_inputs_is_said_before_any_work(here: Path, place: str, says: str) -> None:
    with pytest.raises(InputsError, match=re.escape(says)):
        inputs_from(place)
    code, found, err = run("models_to_verify:Tagger", "--verify", "--input", place)
    assert (code, found) == (1, {})
    assert says in err


def test_inputs_without_verify_are_refused(here: Path) -> None:
    code, found, err = run("models_to_verify:Tagger", "--input", "models_to_verify.py:pair")
    assert (code, found) == (2, {})
    assert "--input is for --verify alone" in err


class Words(nn.Module):
    """A table and a layer, with a part that cannot be copied where it is asked for."""

    def __init__(self, *, copied: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)
        self.layer = nn.Linear(4, 4)
        self.kept = None if copied else torch.ones(1, requires_grad=True) * 2

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.layer(self.table(ids))
        return found


def test_a_model_that_cannot_be_copied_is_given_as_a_function() -> None:
    model = Words(copied=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = verify(model)
    assert found.failed is not None and found.failed.name == "build"
    assert "can be given as a function" in found.failed.hint
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert verify(lambda: Words(copied=False)).failed is None


def test_a_model_is_not_touched_and_no_random_number_is_drawn() -> None:
    model, state = Words(), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = verify(model)
    assert found.failed is None and [step.name for step in found.steps] == list(STEPS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.Linear(5, 3), (2, 5)), (nn.Conv1d(3, 2, 3), (2, 3, 224)), (nn.Embedding(9, 2), (2, 8))],
)
def test_what_a_model_takes_is_seen_at_its_first_layer(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    found = find_inputs(layer, candidates(nn.Sequential(layer)))
    assert isinstance(found, Tensor) and found.shape == shape


def test_a_model_without_layers_is_of_no_kind() -> None:
    with pytest.raises(InputsError, match="is of no kind that inputs could be made for") as error:
        find_inputs(nn.ReLU(), candidates(nn.ReLU()))
    assert (error.value.place, "--input" in error.value.hint) == ("ReLU", True)


def test_what_returns_nothing_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="returns nothing"):
        score({"ids": torch.ones(2, dtype=torch.long), "past": torch.ones(2)})
