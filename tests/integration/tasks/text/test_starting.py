"""A trained trunk in a model of another task: matched and of transformers, dense and shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import embshare
from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    Backbone,
    MatchedClassifier,
    MatchedConfig,
)
from embshare.models.matched.embedding import embed, initialise_, tie_head_
from embshare.runtime.bank import bank_of
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.glue.task import Glue
from embshare.tasks.saving import load_trained, save_trained
from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.task import Squad
from embshare.tasks.text.errors import PretrainedRunError
from embshare.tasks.text.pretrained import PretrainedRun
from embshare.tasks.text.tokenizer import TextTokenizer

SIZES: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "kernel_size": 3}
SHARINGS = [None, embshare.ShareConfig(anchor=2.0), embshare.ShareConfig(tie="none", factor=8)]
TOKENIZER = TextTokenizer.learn(["the dog sees a cat", "where does Anna live ?"] * 3, 300)


class Filler(nn.Module):
    """What a run of pretraining has trained: a trunk, a transform of its own and a tied head."""

    def __init__(self, config: MatchedConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.backbone = Backbone(config, causal=False)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.transform = nn.Linear(config.width, config.width)
        tie_head_(self.head, self.embedding)
        initialise_(self)


def trunk(model: Any, ids: Tensor) -> Tensor:
    """What the head of either model is given."""
    hidden: Tensor = model.backbone(embed(model.embedding, ids), ids.ne(0))[0]
    return hidden


def write_run(folder: Path, model: nn.Module, name: str, settings: dict[str, Any]) -> Path:
    (folder / "processor").mkdir(parents=True)
    TOKENIZER.save(folder / "processor")
    save_trained(model, folder / "model")
    config = {"task": "pretraining", "model": name, "settings": settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def pretrained(
    folder: Path, architecture: Architecture, share: embshare.ShareConfig | None
) -> nn.Module:
    config = MatchedConfig(architecture=architecture, vocab_size=len(TOKENIZER), **SIZES)
    model = Filler(config)
    if share is not None:
        embshare.share_from_embedding(model, share)
    write_run(folder, model, architecture, SIZES)
    return model.eval()


@pytest.mark.parametrize("share", SHARINGS, ids=["dense", "tied", "untied"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_trunk_is_that_of_the_run(
    tmp_path: Path, architecture: Architecture, share: embshare.ShareConfig | None
) -> None:
    saved = pretrained(tmp_path / "run", architecture, share)
    task = Glue(GlueConfig(name="sst2", init_from=tmp_path / "run", width=96)).prepare()
    model = task.processor.build(architecture, seed=3).eval()
    ids = torch.randint(5, len(TOKENIZER), (2, 9))
    assert torch.equal(trunk(model, ids), trunk(saved, ids))
    assert (bank_of(model) is None) == (share is None)
    assert isinstance(model, MatchedClassifier)
    assert "classifier.weight" in dict(model.named_parameters())
    other = task.processor.build(architecture, seed=4)
    assert isinstance(other, MatchedClassifier)
    assert not torch.equal(other.classifier.weight, model.classifier.weight)
    # a saved model needs the run no more
    (tmp_path / "processor").mkdir()
    task.processor.save(tmp_path / "processor")
    save_trained(model, tmp_path / "model")
    (tmp_path / "run").rename(tmp_path / "gone")
    processor = Glue(task.config).load_processor(tmp_path / "processor")
    again = load_trained(tmp_path / "model", processor, architecture)
    batch = {"input_ids": ids}
    assert torch.equal(again(**batch)["logits"], model(**batch)["logits"])


@pytest.mark.parametrize("share", [None, embshare.ShareConfig()], ids=["dense", "shared"])
def test_a_run_of_one_task_starts_another(
    tmp_path: Path, share: embshare.ShareConfig | None
) -> None:
    """Both have a `classifier`, of other shapes; of a shared one it is shared as well."""
    first = Glue(GlueConfig(name="cola", width=16, heads=2, vocabulary_size=400)).prepare()
    saved = first.processor.build("lstm", seed=0).eval()
    if share is not None:
        embshare.share_from_embedding(saved, share)
    write_run(tmp_path / "run", saved, "lstm", SIZES)
    first.processor.save(tmp_path / "run" / "processor")
    task = Glue(GlueConfig(name="rte", init_from=tmp_path / "run")).prepare()
    model: Any = task.processor.build("lstm", seed=0).eval()
    ids = torch.randint(5, 300, (2, 9))
    assert torch.equal(trunk(model, ids), trunk(saved, ids))
    assert model.classifier.weight.shape == (2, 64)
    assert "classifier.weight" in dict(model.named_parameters())


def test_spans_start_from_a_run_too(tmp_path: Path) -> None:
    saved = pretrained(tmp_path / "run", "conv", embshare.ShareConfig())
    task = Squad(SquadConfig(init_from=tmp_path / "run")).prepare()
    ids = torch.randint(5, len(TOKENIZER), (2, 9))
    model = task.processor.build("conv", seed=0).eval()
    assert torch.equal(trunk(model, ids), trunk(saved, ids))


def small_bert(**changes: Any) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        **changes,
    )


def berts(kind: str) -> tuple[nn.Module, str]:
    """A masked language model with a random trunk, and the attribute that holds that."""
    if kind == "sharebert":
        from embshare.models.sharebert import ShareBertConfig, ShareBertForMaskedLM

        config = ShareBertConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=32,
            factor_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
        return ShareBertForMaskedLM(config), "bert"
    from transformers import BertForMaskedLM

    model: nn.Module = BertForMaskedLM(small_bert())
    if kind == "shared bert":
        embshare.share_from_embedding(model, embshare.ShareConfig())
    return model, "bert"


@pytest.mark.parametrize("kind", ["bert", "shared bert", "sharebert"])
@pytest.mark.filterwarnings("ignore:.*")
def test_models_of_transformers_keep_their_trunk_and_their_sharing(
    tmp_path: Path, kind: str
) -> None:
    saved, base = berts(kind)
    write_run(tmp_path / "run", saved, "whatever", {})
    task = Glue(GlueConfig(name="mrpc", init_from=tmp_path / "run")).prepare()
    model: Any = task.processor.build("whatever", seed=0).eval()
    ids = torch.randint(5, len(TOKENIZER), (2, 9))
    before = getattr(saved.eval(), base)(ids).last_hidden_state
    assert torch.equal(getattr(model, base)(ids).last_hidden_state, before)
    names = set(dict(model.named_parameters()))
    assert {"classifier.weight", "classifier.bias"} <= names
    query = [name for name in names if "query.weight" in name]
    assert bool(query) == (kind == "bert")
    assert model.config.id2label == {0: "0", 1: "1"}
    (tmp_path / "processor").mkdir()
    task.processor.save(tmp_path / "processor")
    save_trained(model, tmp_path / "model")
    processor = Glue(task.config).load_processor(tmp_path / "processor")
    again = load_trained(tmp_path / "model", processor, "whatever")
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_another_model_than_the_runs_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path / "run", "conv", None)
    task = Glue(GlueConfig(init_from=tmp_path / "run")).prepare()
    with pytest.raises(
        ModelNotForTaskError, match=r"`lstm` cannot .* run in .* trained `conv`\. N"
    ):
        task.processor.build("lstm", seed=0)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.yaml", r"its config\.yaml cannot be read"),
        ("model/model.safetensors", "it holds no trained model"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, gone: str, message: str) -> None:
    pretrained(tmp_path / "run", "conv", None)
    (tmp_path / "run" / gone).unlink()
    with pytest.raises(PretrainedRunError, match=message):
        Glue(GlueConfig(init_from=tmp_path / "run")).prepare()


def test_a_run_that_hides_its_sizes_is_refused(tmp_path: Path) -> None:
    pretrained(tmp_path / "run", "conv", None)
    (tmp_path / "run/config.yaml").write_text("model: conv\nsettings: {width: 16}\n")
    with pytest.raises(PretrainedRunError, match=r"does not say how large its model is .*`layers`"):
        PretrainedRun.read(tmp_path / "run")


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    pretrained(tmp_path / "run", "conv", None)
    settings = {**SIZES, "width": 32}
    config = {"model": "conv", "settings": settings}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    task = Glue(GlueConfig(init_from=tmp_path / "run")).prepare()
    with pytest.raises(
        PretrainedRunError, match=r"`embedding\.weight` of its model is \(\d+, 16\)"
    ):
        task.processor.build("conv", seed=0)
