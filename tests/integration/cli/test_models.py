"""MODEL on the command line: each form, and each way of getting it wrong."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from embshare.adapters.errors import ModelNotBuiltError, suggestion
from embshare.cli.models import build_model
from embshare.errors import MissingPackageError

FACTORIES = """
    import torch
    from torch import nn


    class Tagger(nn.Module):
        def __init__(self, words=20):
            super().__init__()
            self.table = nn.Embedding(words, 4)
            self.head = nn.Linear(4, 4)


    class Group:
        make = Tagger


    made = Tagger()
    number = 3


    def sized(words, width=4):
        return Tagger(words)


    def nothing():
        return None


    def broken():
        raise RuntimeError("no disk")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's with a module of factories, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factories_of_mine.py").write_text(textwrap.dedent(FACTORIES))
    (tmp_path / "breaks_on_import.py").write_text("import a_package_that_is_not_there\n")
    yield tmp_path
    for name in ("factories_of_mine", "breaks_on_import"):
        sys.modules.pop(name, None)


def on_meta(model: nn.Module) -> bool:
    return all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_the_matched_family(architecture: str) -> None:
    built = build_model(f"embshare:{architecture}", weights=False)
    assert type(built.model).__name__ == "MatchedLanguageModel"
    assert built.origin == (
        f"MatchedLanguageModel of embshare:{architecture}, with random weights."
    )


@pytest.mark.parametrize("attribute", ["Tagger", "made", "Group.make"])
def test_a_factory_of_the_current_folder(here: Path, attribute: str) -> None:
    before = list(sys.path)
    built = build_model(f"factories_of_mine:{attribute}", weights=False)
    assert type(built.model).__name__ == "Tagger"
    assert not on_meta(built.model)
    assert sys.path == before


def test_a_factory_of_a_package() -> None:
    assert isinstance(build_model("torch.nn:Flatten", weights=True).model, nn.Flatten)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "not a model's name. MODEL is a folder"),
        ("factories_of_mine:tager", "has no `tager`. Did you mean `Tagger`?"),
        ("factories_of_mine:Group.mak", "has no `Group.mak`. Did you mean `make`?"),
        ("factories_of_mine:number", "must be a function, a class or a module, but is a int"),
        ("factories_of_mine:sized", "cannot be called without arguments (missing a required"),
        ("factories_of_mine:nothing", "must give a torch.nn.Module, but gave a NoneType"),
        ("factories_of_mine:broken", "failed (RuntimeError: no disk). Call it in Python"),
        ("absent_module:make", "there is no module `absent_module`. MODEL is a folder"),
        ("torch.absent:make", "there is no module `torch.absent`"),
        ("breaks_on_import:make", "importing `breaks_on_import` failed (ModuleNotFoundError"),
        ("two words:make", "not a model's name"),
        ("module:", "not a model's name"),
        ("embshare:lsmt", "`embshare:lsmt`: there is no such model. Did you mean `lstm`?"),
        ("./absent", "`./absent`: there is no such folder. MODEL is"),
        ("a/b/c", "there is no such folder"),
        ("absent/", "there is no such folder"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(here: Path, name: str, says: str) -> None:
    with pytest.raises(ModelNotBuiltError, match=re.escape(says)):
        build_model(name, weights=False)


def test_a_folder_without_config(here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(ModelNotBuiltError, match=r"^`empty`: has no config\.json\. MODEL is"):
        build_model("empty", weights=True)


def test_a_checkpoint_of_ours_holds_no_code(here: Path) -> None:
    (here / "small").mkdir()
    (here / "small" / "embshare.json").write_text("{}")
    with pytest.raises(ModelNotBuiltError, match=r"Load it in Python with embshare\.load"):
        build_model("small", weights=True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model saved by transformers, and beside it its config alone."""
    from transformers import BertConfig, BertForMaskedLM

    root = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = BertForMaskedLM(config)
    model.save_pretrained(root / "whole")
    model.config.save_pretrained(root / "bare")
    return root


def test_a_folder_with_weights(bert: Path) -> None:
    one = build_model(str(bert / "whole"), weights=True)
    two = build_model(str(bert / "whole"), weights=True)
    assert type(one.model).__name__ == "BertForMaskedLM"
    assert one.origin.endswith("whole, with its weights.")
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_folder_without_weights_says_so(bert: Path) -> None:
    built = build_model(str(bert / "bare"), weights=True)
    assert built.origin.endswith("with random weights: the folder holds none.")
    assert not on_meta(built.model)


@pytest.mark.parametrize("folder", ["whole", "bare"])
def test_a_folder_on_meta(bert: Path, folder: str) -> None:
    built = build_model(str(bert / folder), weights=False, meta=True)
    assert on_meta(built.model)
    assert built.origin.endswith("built without weights.")


def test_a_config_that_transformers_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of_my_own"}')
    with pytest.raises(ModelNotBuiltError, match=r"its config\.json cannot be read"):
        build_model(str(tmp_path), weights=True)


def test_weights_that_cannot_be_read(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((bert / "whole" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelNotBuiltError, match="its weights cannot be read"):
        build_model(str(tmp_path), weights=True)


def test_a_hub_name_that_cannot_be_had() -> None:
    with pytest.raises(ModelNotBuiltError, match=r"^`nobody/nothing`: not to be had \("):
        build_model("nobody/nothing", weights=False)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_models_of_vision_on_meta(name: str) -> None:
    built = build_model(name, weights=False, meta=True)
    assert on_meta(built.model)
    assert built.origin == f"ResNet of {name}, built without weights."


@pytest.mark.parametrize("name", ["torchvision:resnet19", "timm:resnet19"])
def test_a_wrong_name_of_vision(name: str) -> None:
    with pytest.raises(ModelNotBuiltError, match=r"there is no such model\. Did you mean `resnet"):
        build_model(name, weights=False)


@pytest.mark.parametrize(
    ("package", "extra", "name"),
    [
        ("torchvision", "vision", "torchvision:resnet18"),
        ("timm", "vision", "timm:resnet18"),
        ("transformers", "hf", "nobody/nothing"),
    ],
)
def test_a_missing_extra_is_named(
    package: str, extra: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(asked: str) -> None:
        raise ModuleNotFoundError(f"No module named {asked!r}", name=asked)

    monkeypatch.setattr("embshare.adapters.packages.importlib.import_module", absent)
    with pytest.raises(MissingPackageError) as caught:
        build_model(name, weights=False)
    assert str(caught.value) == f"`{package}` is not installed: pip install 'embshare[{extra}]'"


def test_suggestions() -> None:
    assert suggestion("lsmt", ["lstm", "conv"]) == "Did you mean `lstm`?"
    assert suggestion("x", ["aa", "bb"]) == "There are `aa`, `bb`."
    assert suggestion("x", list("abcde")) == "There are `a`, `b`, `c` and 2 more."
    assert suggestion("x", []) == "There is none."
