"""``fairseq:NAME`` on the command line, and the command that prints the plug-in's folder."""

from importlib.util import find_spec

import pytest
import torch
from typer.testing import CliRunner

from embshare.adapters.errors import ModelNotBuiltError
from embshare.adapters.fairseq import PLUGIN
from embshare.cli import app
from embshare.cli.models import build_model
from embshare.config import ShareConfig
from embshare.errors import MissingPackageError


def test_the_plugins_folder_is_printed() -> None:
    done = CliRunner().invoke(app, ["fairseq-plugin"])
    assert done.exit_code == 0
    assert done.stdout == f"{PLUGIN}\n"
    assert (PLUGIN / "__init__.py").is_file()


@pytest.mark.skipif(find_spec("fairseq") is not None, reason="fairseq is installed here")
def test_without_fairseq_the_extra_is_named() -> None:
    with pytest.raises(MissingPackageError, match=r"pip install 'embshare\[fairseq\]'"):
        build_model("fairseq:lstm", weights=False)


@pytest.mark.fairseq
@pytest.mark.parametrize("name", ["lstm", "fconv", "transformer_iwslt_de_en", "transformer_lm"])
def test_an_architecture_is_built_on_meta_and_planned_as_the_plugin_would(name: str) -> None:
    built = build_model(f"fairseq:{name}", weights=False, meta=True)
    assert built.origin.endswith(f" of fairseq:{name}, built without weights.")
    plan = built.planner(built.model, ShareConfig(factor=64))
    derived = sum(slot.numel * len(slot.weights) for slot in plan.slots)
    assert derived > 1_000_000
    assert all(source.rows == 10_000 for source in plan.sources)
    assert len(plan.sources) == (1 if name == "transformer_lm" else 2)


@pytest.mark.fairseq
def test_with_values_it_is_small_enough_to_share() -> None:
    torch.manual_seed(0)
    built = build_model("fairseq:transformer_tiny", weights=True)
    assert built.origin.endswith("with random weights.")


@pytest.mark.fairseq
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fairseq:lsmt", "there is no such architecture for text. Did you mean `lstm`"),
        ("fairseq:wav2vec2", "there is no such architecture for text"),
        ("fairseq:transformer_from_pretrained_xlm", "fairseq cannot build it (AssertionError"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(ModelNotBuiltError) as error:
        build_model(name, weights=False)
    assert says in str(error.value)
