"""One run: its folder, and errors before training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.averaging import AveragingError, mean_of
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.errors import MissingDataError
from embshare.tasks.runs.config import ConfigFileError, RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.folder import NoRunError, OtherRunError, RunExistsError, RunFolder
from embshare.tasks.runs.loading import load_run
from embshare.tasks.saving import ModelFolderError
from embshare.tasks.text.errors import TokenizerError
from tests._support.run_example import config


def test_a_folder_that_is_not_empty_is_left_alone_unless_overwrite_is_set(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.out.mkdir()
    note = settings.out / "notes.txt"
    note.write_text("mine")
    with pytest.raises(RunExistsError, match="or resume it with --resume") as caught:
        run(settings)
    assert caught.value.folder == settings.out
    first = run(settings, overwrite=True)
    second = run(settings, overwrite=True)
    assert first.metrics == second.metrics
    assert note.read_text() == "mine"


def test_a_run_is_resumed_with_its_own_settings_only(tmp_path: Path) -> None:
    run(config(tmp_path))
    other = config(tmp_path, seed=1, training={"learning_rate": 0.5})
    with pytest.raises(OtherRunError, match=r"`seed`, `settings\.training\.learning_rate` changed"):
        run(other, resume=True)
    with pytest.raises(InvalidValueError, match="exclude each other"):
        run(other, resume=True, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model": "convolution"}, ModelNotForTaskError, "transformers cannot build it"),
        ({"model": "embshare:berta"}, ModelNotForTaskError, "there is no such model.*bert-base"),
        ({"settings": {"data": "nowhere"}}, MissingDataError, "must be a folder with the split"),
        ({"settings": {"tokenizer": "./none", "level": "subword"}}, TokenizerError,
         "must be a tokenizer of transformers"),
        ({"share": ShareConfig(tie="none", method="eps"), "settings": {"layers": 9}},
         EmbshareError, r"must have \d+ columns"),
        ({"share": ShareConfig(exclude=("head.wieght",))}, EmbshareError, "head.wieght"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], kind: type[EmbshareError], message: str
) -> None:
    settings = config(tmp_path, **changes)
    with pytest.raises(kind, match=message):
        run(settings)
    assert not settings.out.exists()


def test_epochs_are_counted_in_steps(tmp_path: Path) -> None:
    settings = config(tmp_path)
    fields = settings.model_dump()
    fields["settings"]["training"] = {"epochs": 0.5, "batch_size": 4, "accumulation": 2}
    half = RunConfig(**fields)
    assert RunConfig.from_json(half.to_json()) == half  # without the steps, which do not count
    windows = math.ceil((30 * 16 + 301) / 12)
    assert run(half).steps == math.ceil(0.5 * math.ceil(windows / 4) / 2)
    with pytest.raises(InvalidValueError, match="`epochs` exclude each other"):
        fields["settings"]["training"] |= {"steps": 3}
        RunConfig(**fields)


def test_the_model_is_the_mean_of_the_last_checkpoints(tmp_path: Path) -> None:
    settings = config(tmp_path, share=ShareConfig(), training={"average": 3})
    run(settings)
    folders = [settings.out / "checkpoints" / f"checkpoint-{step}" for step in (4, 6, 8)]
    states = [load_file(folder / "model.safetensors") for folder in folders]
    model = load_run(settings.out).model.state_dict()
    assert model.keys() == states[0].keys()
    for name, tensor in model.items():
        mean = torch.stack([state[name].double() for state in states]).mean(dim=0)
        torch.testing.assert_close(tensor, mean.float())
    assert not torch.equal(states[0]["embedding.weight"], model["embedding.weight"])
    with pytest.raises(AveragingError, match="must have 9 checkpoints to average, but has 8"):
        many = config(tmp_path, out=tmp_path / "many", training={"average": 9, "save_every": 1})
        run(many)


def test_a_mean_is_of_what_all_have() -> None:
    one, other = {"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.full((2,), 3.0)}
    assert {k: v.tolist() for k, v in mean_of([one, other], {"a", "b"}).items()} == {"a": [2, 2]}


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoRunError, match=r"has no config\.yaml"):
        load_run(tmp_path)
    settings = config(tmp_path)
    run(settings)
    folder = RunFolder(settings.out)
    (folder.model / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_run(settings.out)
    (folder.model / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match="it holds no weights"):
        load_run(settings.out)
    (folder.processor / "tokenizer.json").write_text("[]")
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        load_run(settings.out)
    folder.config.write_text("- a list")
    with pytest.raises(ConfigFileError, match="is not a mapping"):
        load_run(settings.out)
    folder.config.write_text("task: [")
    with pytest.raises(ConfigFileError, match="it is not YAML"):
        load_run(settings.out)


def test_a_model_of_transformers_is_trained_and_its_folder_read(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    architecture = tmp_path / "gpt2"
    GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32).save_pretrained(architecture)
    settings = config(tmp_path, model=str(architecture), share=ShareConfig())
    result = run(settings)
    folder = RunFolder(settings.out)
    found = load_run(settings.out)
    again = found.evaluate({}, folder=tmp_path)
    assert again["perplexity"] == pytest.approx(result.metrics["perplexity"], rel=1e-6)
    with pytest.raises(ModelNotForTaskError, match="does not read a row of 33 tokens"):
        found.evaluate({"length": 32}, folder=tmp_path)
    assert len(next(iter(found.processor.predict(found.model, ["the quick"])))) > 9
    plain: Any = AutoModelForCausalLM.from_pretrained(folder.model)
    assert plain.config.vocab_size == len(plain.get_input_embeddings().weight)
    assert plain.config.eos_token_id < plain.config.vocab_size


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    settings = config(tmp_path, share=ShareConfig(), training={"batch_size": 2})
    file = tmp_path / "config.yaml"
    file.write_text(settings.to_yaml())
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m"]
    done = subprocess.run(
        [*command, "embshare", "train", "language_modelling", "--config", str(file)],
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(sys.path),
        },
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    two = load_run(settings.out).evaluate({}, folder=tmp_path)["perplexity"]
    one = run(config(tmp_path, share=ShareConfig(), out=tmp_path / "one"))
    assert two == pytest.approx(one.metrics["perplexity"], rel=0.05)  # other dropout, same batches


def scored(out: Path, task: str, metrics: dict[str, float]) -> float:
    """Number of rows that an evaluation has scored, counted in what it wrote."""
    samples = out / "samples"
    match task:
        case "language_modelling":
            return metrics["tokens"] / 12  # `length` of the example
        case "pretraining":
            return metrics["masked_tokens"] / round(0.15 * 10)
        case "translation":
            return len((samples / "test.de").read_text().splitlines())
        case "captioning":
            return metrics["images"]
        case "glue":
            return len(json.loads((samples / "samples.json").read_text()))
        case _:
            return len(json.loads((samples / "predictions.json").read_text()))


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_is_limited_to_the_first_rows(task: str, tmp_path: Path) -> None:
    result = run(config(tmp_path, task, settings={"eval_limit": 2}))
    assert result.config.settings.eval_limit == 2
    assert scored(result.config.out, task, result.metrics) == 2
    found = load_run(result.config.out)
    again = found.evaluate({"eval_limit": 10**6}, folder=result.config.out / "samples")
    whole = found.evaluate({"eval_limit": None}, folder=result.config.out / "samples")
    assert again == whole
    assert scored(result.config.out, task, whole) > 2
    if task == "glue":
        assert result.metrics.keys() == whole.keys()


def test_bits_per_byte_of_a_limited_evaluation_are_of_the_bytes_that_were_scored(
    tmp_path: Path,
) -> None:
    settings = {"level": "subword", "vocabulary_size": 300}
    result = run(config(tmp_path, settings={**settings, "eval_limit": 3}))
    metrics, text = result.metrics, (tmp_path / "data" / "test.txt").read_text()
    processor = load_run(result.config.out).processor
    tokens = processor.tokenizer.encode_text(text)[: int(metrics["tokens"])]  # type: ignore[attr-defined]
    size = len(processor.tokenizer.decode(tokens.tolist()).encode())  # type: ignore[attr-defined]
    bits = metrics["nats"] / math.log(2) / size
    assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-12)
