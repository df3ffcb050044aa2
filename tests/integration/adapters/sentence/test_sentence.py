"""Wrappers of sentence-transformers: shared, saved, loaded and trained by their own methods."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

import embshare
from embshare import ShareConfig
from embshare.integrations import home_of
from embshare.runtime.bank import bank_of
from embshare.tasks.text.tokenizer import TextTokenizer

pytest.importorskip("sentence_transformers", exc_type=ImportError)  # of transformers 5
from datasets import Dataset  # type: ignore[import-untyped]
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.cross_encoder import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

pytestmark = pytest.mark.filterwarnings("ignore")  # of whatever these packages have to say

TEXTS = [f"{a} {b} number {n}" for a in ("the", "one") for b in ("cat", "dog") for n in range(8)]
PAIRS = list(zip(TEXTS, reversed(TEXTS), strict=True))
CONFIG = ShareConfig(residual_rank=2)


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny trained encoder with its tokenizer, as transformers has it."""
    place = tmp_path_factory.mktemp(request.param)
    tokenizer = TextTokenizer.learn(TEXTS, 300)
    tokenizer.save(place)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    if request.param == "bert":
        sizes |= {"hidden_size": 64, "intermediate_size": 32}
        config = BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=2)
        BertModel(config).save_pretrained(place)
    else:
        small = DistilBertConfig(**sizes, dim=64, hidden_dim=32, n_layers=2, n_heads=2)
        DistilBertModel(small).save_pretrained(place)
    return str(place)


KINDS: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "SentenceTransformer": (
        lambda folder: SentenceTransformer(folder, device="cpu"),
        lambda model: model.encode(TEXTS[:5], convert_to_tensor=True),
    ),
    "CrossEncoder": (
        lambda folder: CrossEncoder(folder, num_labels=1, device="cpu"),
        lambda model: model.predict(PAIRS[:5], convert_to_tensor=True),
    ),
    "SparseEncoder": (
        lambda folder: SparseEncoder(folder, device="cpu"),
        lambda model: model.encode(TEXTS[:5], convert_to_tensor=True).to_dense(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["save", "save_pretrained"])
def test_it_saves_and_loads_by_its_own_methods(
    kind: str, method: str, folder: str, tmp_path: Path
) -> None:
    make, use = KINDS[kind]
    dense = make(folder)
    shared = embshare.share_from_embedding(dense, CONFIG)
    assert shared is dense
    home = home_of(shared)
    bank = bank_of(home)
    assert bank is not None and any(module is bank for module in home.children())
    assert all(not name.startswith("0.") for name in bank.plan.weights())
    assert bank.plan.start == "svd"
    getattr(shared, method)(str(tmp_path))
    again = type(shared)(str(tmp_path), device="cpu")
    assert torch.equal(use(again), use(shared))
    assert embshare.summarize(again).stored == embshare.summarize(shared).stored
    plain = embshare.materialize(again)
    assert torch.equal(use(plain), use(shared))


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_that_of_the_model_inside(kind: str, folder: str) -> None:
    model = KINDS[kind][0](folder)
    assert embshare.plan_sharing(model) == embshare.plan_sharing(home_of(model))
    copied = embshare.share_from_embedding(model, CONFIG, inplace=False)
    assert bank_of(model) is None and bank_of(copied) is not None
    assert embshare.share_from_embedding(copied, CONFIG) is copied


def test_any_other_module_is_its_own_home() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert home_of(layer) is layer


def trainer(model: Any, out: Path, **changes: Any) -> Any:
    cross = isinstance(model, CrossEncoder)
    kinds: Any = (
        (CrossEncoderTrainer, CrossEncoderTrainingArguments, BinaryCrossEntropyLoss)
        if cross
        else (
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
            MultipleNegativesRankingLoss,
        )
    )
    columns: dict[str, Any] = {"first": TEXTS, "second": TEXTS[::-1]}
    data = Dataset.from_dict(columns | ({"label": [0.0, 1.0] * (len(TEXTS) // 2)} if cross else {}))
    arguments = kinds[1](
        output_dir=str(out),
        max_steps=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        save_steps=2,
        eval_steps=2,
        eval_strategy="steps",
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        **changes,
    )
    return kinds[0](model, arguments, train_dataset=data, eval_dataset=data, loss=kinds[2](model))


@pytest.mark.parametrize("kind", ["SentenceTransformer", "CrossEncoder"])
def test_it_trains_and_resumes_in_its_own_trainer(kind: str, folder: str, tmp_path: Path) -> None:
    make, use = KINDS[kind]
    torch.manual_seed(0)
    begun = make(folder).state_dict()  # a new head is drawn: the same one for both

    def fresh() -> Any:
        model = make(folder)
        model.load_state_dict(begun)
        return embshare.share_from_embedding(model, CONFIG)

    start = use(fresh())
    whole = fresh()
    trainer(whole, tmp_path / "a").train()
    assert not torch.equal(use(whole), start)
    saved = type(whole)(str(tmp_path / "a" / "checkpoint-4"), device="cpu")
    assert torch.equal(use(saved), use(whole))
    resumed = fresh()
    trainer(resumed, tmp_path / "a").train(
        resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2")
    )
    assert torch.equal(use(resumed), use(whole))


@pytest.mark.parametrize("kind", ["SentenceTransformer", "CrossEncoder"])
def test_the_best_checkpoint_is_what_is_left_in_the_model(
    kind: str, folder: str, tmp_path: Path
) -> None:
    make, use = KINDS[kind]
    model = embshare.share_from_embedding(make(folder), CONFIG)
    # The loss falls, and the best one is asked for by the wrong side: the first checkpoint.
    wrong = {"metric_for_best_model": "eval_loss", "greater_is_better": True}
    run = trainer(model, tmp_path, load_best_model_at_end=True, **wrong)
    run.train()
    losses = {h["step"]: h["eval_loss"] for h in run.state.log_history if "eval_loss" in h}
    best = max(losses, key=lambda step: losses[step])
    found = type(model)(str(tmp_path / f"checkpoint-{best}"), device="cpu")
    assert torch.equal(use(model), use(found))
    assert losses[2] != losses[4]
