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
from tests.adapters.huggingface.families import FAMILIES, IDS

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


def train(model: Any, folder: Path, resume: Path | None = None) -> Any:
    trainer = Trainer(model=model, args=arguments(folder), train_dataset=DATA)
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


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(FAMILIES["bert"]())
    more = {"eval_strategy": "steps", "eval_steps": 4, "load_best_model_at_end": True}
    trainer = Trainer(
        model=model, args=arguments(tmp_path, **more), train_dataset=DATA, eval_dataset=DATA
    )
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best and equal(AutoModelForMaskedLM.from_pretrained(best), model)


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
