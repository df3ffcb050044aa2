"""Trainer and gradient checkpointing, on models that came out of a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    Trainer,
    TrainingArguments,
)

import embshare
from embshare import ShareConfig
from tests._support.huggingface_families import FAMILIES, IDS

# Names that transformers 5.23 has given a second one, and itself still calls by the first.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")

CLASSES: dict[str, Any] = {
    "bert": AutoModelForMaskedLM,
    "gpt2": AutoModelForCausalLM,
    "llama": AutoModelForCausalLM,
    "t5": AutoModelForSeq2SeqLM,
}
DATA = [{"input_ids": (IDS[0] + i) % 97 + 3, "labels": (IDS[0] + i) % 97 + 3} for i in range(16)]


def arguments(folder: Path, **more: Any) -> TrainingArguments:
    """Eight steps on the CPU, saved after the fourth."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=8,
        save_steps=4,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        **more,
    )


def train(model: Any, folder: Path, resume: Path | None = None, **more: Any) -> Any:
    trainer = Trainer(model=model, args=arguments(folder, **more), train_dataset=DATA)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer.model


def equal(one: Any, other: Any) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("bert", ShareConfig()),
        ("gpt2", ShareConfig(factor=4, gain="channel")),
        ("llama", ShareConfig(tie="none", residual_rank=2)),
        ("t5", ShareConfig(factor=4)),
    ],
    ids=["bert", "gpt2", "llama", "t5"],
)
def test_resumed_it_ends_where_it_would_have_ended(
    name: str, config: ShareConfig, tmp_path: Path
) -> None:
    model = embshare.share_from_embedding(FAMILIES[name](), config)
    model.save_pretrained(tmp_path / "start")
    kind, checkpoint = CLASSES[name], tmp_path / "whole" / "checkpoint-4"
    whole = train(kind.from_pretrained(tmp_path / "start"), tmp_path / "whole")

    resumed = train(kind.from_pretrained(checkpoint), tmp_path / "rest", checkpoint)
    again = train(kind.from_pretrained(tmp_path / "start"), tmp_path / "more", checkpoint)

    assert equal(resumed, whole) and equal(again, whole)
    assert equal(kind.from_pretrained(tmp_path / "whole" / "checkpoint-8"), whole)


@pytest.mark.parametrize(
    "more",
    [
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"bf16": True},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.1, "weight_decay": 0.1},
    ],
    ids=["checkpointing", "bf16", "accumulation"],
)
def test_resumed_in_other_ways_of_training(more: dict[str, Any], tmp_path: Path) -> None:
    embshare.share_from_embedding(FAMILIES["llama"]()).save_pretrained(tmp_path / "start")
    kind, checkpoint = AutoModelForCausalLM, tmp_path / "whole" / "checkpoint-4"
    whole = train(kind.from_pretrained(tmp_path / "start"), tmp_path / "whole", **more)
    resumed = train(kind.from_pretrained(checkpoint), tmp_path / "rest", checkpoint, **more)
    assert equal(resumed, whole)
    assert not equal(whole, kind.from_pretrained(tmp_path / "start"))
    assert {parameter.dtype for parameter in whole.parameters()} == {torch.float32}


def test_bf16_weights_are_trained_and_resumed(tmp_path: Path) -> None:
    embshare.share_from_embedding(FAMILIES["llama"]()).save_pretrained(tmp_path / "start")
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "start", dtype=torch.bfloat16)
    whole, checkpoint = train(start, tmp_path / "whole"), tmp_path / "whole" / "checkpoint-4"
    half = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto")
    assert half.dtype is torch.bfloat16
    assert equal(train(half, tmp_path / "rest", checkpoint), whole)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_best_checkpoint_is_loaded_at_the_end(checkpointing: bool, tmp_path: Path) -> None:
    more = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,  # so that the best is not the last
        "gradient_checkpointing": checkpointing,
    }
    model = embshare.share_from_embedding(FAMILIES["bert"]())
    trainer = Trainer(
        model=model, args=arguments(tmp_path, **more), train_dataset=DATA, eval_dataset=DATA
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    kind = AutoModelForMaskedLM
    assert equal(kind.from_pretrained(tmp_path / "checkpoint-4"), model)
    assert not equal(kind.from_pretrained(tmp_path / "checkpoint-8"), model)
    assert (tmp_path / "checkpoint-4" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", CLASSES)
def test_gradient_checkpointing(name: str, tmp_path: Path) -> None:
    embshare.share_from_embedding(FAMILIES[name]()).save_pretrained(tmp_path)
    models = [CLASSES[name].from_pretrained(tmp_path).train() for _ in range(2)]
    models[1].gradient_checkpointing_enable({"use_reentrant": False})
    for model in models:
        torch.manual_seed(0)  # dropout
        model(input_ids=IDS, labels=IDS).loss.backward()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
