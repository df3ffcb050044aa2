"""A run of a trained model reads its data with the tokenizer that the model came with."""

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForMaskedLM, BertModel

from embshare import ShareConfig
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.vocabulary import with_own_tokenizer
from embshare.tasks.text.tokenizer import TextTokenizer

TASKS = ["glue", "squad", "translation", "language_modelling", "pretraining"]
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def trained(folder: Path, *, tokenizer: Path | None) -> str:
    made = TextTokenizer.learn(["a cat and a dog"], 300)
    config = BertConfig(vocab_size=len(made), intermediate_size=16, **SIZES)
    BertForMaskedLM(config).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.mkdir(parents=True, exist_ok=True)
        made.save(tokenizer)
    return str(folder)


def config(task: str, model: str, **settings: Any) -> RunConfig:
    return RunConfig(task=task, model=model, settings=settings, out=Path("out"))  # type: ignore[arg-type]


def tokenizer_of(run: RunConfig) -> str | None:
    return getattr(with_own_tokenizer(run).settings, "tokenizer", None)


@pytest.mark.parametrize("task", TASKS)
def test_the_tokenizer_beside_the_weights_is_used(task: str, tmp_path: Path) -> None:
    model = trained(tmp_path, tokenizer=tmp_path)
    assert tokenizer_of(config(task, model)) == model
    assert tokenizer_of(config(task, model, tokenizer="mine")) == "mine"
    assert with_own_tokenizer(with_own_tokenizer(config(task, model))) == with_own_tokenizer(
        config(task, model)
    )


@pytest.mark.parametrize("task", TASKS)
def test_that_of_a_run_is_used_for_its_model(task: str, tmp_path: Path) -> None:
    model = trained(tmp_path / "model", tokenizer=tmp_path / "processor")
    assert tokenizer_of(config(task, model)) == str(tmp_path / "processor")


@pytest.mark.parametrize("task", TASKS)
def test_without_one_it_is_refused(task: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotForTaskError, match="no tokenizer beside them"):
        with_own_tokenizer(config(task, trained(tmp_path, tokenizer=None)))


def test_whole_words_are_no_tokens_of_a_trained_model(tmp_path: Path) -> None:
    model = trained(tmp_path, tokenizer=tmp_path)
    with pytest.raises(ModelNotForTaskError, match="a subword vocabulary"):
        with_own_tokenizer(config("language_modelling", model, level="word"))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", ["attention", "embshare:bert-base", "ARCHITECTURE"])
def test_a_model_without_weights_learns_its_vocabulary(
    task: str, model: str, tmp_path: Path
) -> None:
    if model == "ARCHITECTURE":
        BertModel(BertConfig(**SIZES)).config.save_pretrained(tmp_path)
        model = str(tmp_path)
    assert tokenizer_of(config(task, model)) is None


@pytest.mark.parametrize("task", TASKS)
def test_a_name_on_the_hub_is_its_own_tokenizer(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotForTaskError, match="transformers cannot build it"):
        tokenizer_of(config(task, "owner/name"))
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda name: BertConfig())
    assert tokenizer_of(config(task, "owner/name")) == "owner/name"


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_a_trained_encoder_learns_glue_with_its_own_tokens(tmp_path: Path) -> None:
    from embshare.tasks.runs.engine import run

    model = trained(tmp_path / "bert", tokenizer=tmp_path / "bert")
    settings = {"name": "sst2", "training": {"steps": 1, "batch_size": 4}, "most_rows": 8}
    fields: dict[str, Any] = {"task": "glue", "model": model, "settings": settings}
    result = run(RunConfig(**fields, share=ShareConfig(), out=tmp_path / "out"), checkpoints=False)
    assert result.config.settings.tokenizer == model  # type: ignore[attr-defined]
    assert TextTokenizer.load(str(tmp_path / "out" / "processor")).fast.get_vocab() == (
        TextTokenizer.load(model).fast.get_vocab()
    )
