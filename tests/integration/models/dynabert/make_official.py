"""Run the official DynaBERT code once and keep its numbers; see `README.md`.

    python tests/integration/models/dynabert/make_official.py DYNABERT TINYBERT

DYNABERT and TINYBERT are those folders of github.com/huawei-noah/Pretrained-Language-Model. Nothing
of them is copied here: their models are built with the settings below, filled with random numbers,
and asked for outputs, importances, and the losses and gradients of their own training loop. Run it
as a file and by itself: the official packages are called `transformers` and `transformer`.
"""

from __future__ import annotations

import copy
import random
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "max_position_embeddings": 16,
}
OFF = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WIDTHS, DEPTHS = (1.0, 0.75, 0.5, 0.25), (1.0, 0.75, 0.5)
LENGTHS, LABELS, SEED = (10, 7, 4, 9, 10, 5), 3, 0
"""Words of each sentence, two of which are a batch for importances; and classes."""
GRID = 1024
"""Weights are multiples of 1 / GRID, stored as integers."""
STEPS, RATE = 2, 1e-3
"""Updates of each stage with all sentences in one batch, and their first learning rate."""
STAGES = {"width": "dynabertw", "depth": "dynabert", "tuned": "final_finetuning"}
WORDS = (
    "the cat dog sat run ##ning ##ner on mat big small red blue house tree good bad ##ly".split()
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = ("The big cat sat on the mat.", "a runner, Running badly", "Red house tree")
VARIANTS, CANDIDATES, CHANCE = 8, 5, 0.4


def official_config(kind: type[Any], **settings: Any) -> Any:
    """Settings as the official code takes them."""
    made = kind(SETTINGS["vocab_size"], num_labels=LABELS)
    for name, value in (SETTINGS | OFF | settings).items():
        setattr(made, name, value)
    made.output_attentions = made.output_hidden_states = made.output_intermediate = True
    return made


@torch.no_grad()
def fill(model: nn.Module, generator: torch.Generator) -> dict[str, np.ndarray]:
    """Random weights on the grid, around 1 for the gains of norms, and what they are."""
    stored: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator) * 0.3
        drawn += float("LayerNorm.weight" in name)
        stored[name] = (drawn * GRID).round().to(torch.int16).numpy()
        parameter.copy_(torch.from_numpy(stored[name]).double() / GRID)
    return stored


def batch(generator: torch.Generator) -> dict[str, Tensor]:
    """Padded sentences with their classes; the second has two segments."""
    words, longest = SETTINGS["vocab_size"], max(LENGTHS)
    ids = torch.randint(2, words, (len(LENGTHS), longest), generator=generator)
    ids[:, 0] = 0  # officially the first word of every RoBERTa sentence
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    types = torch.zeros_like(ids)
    types[1, 3:7] = 1
    labels = torch.randint(LABELS, (len(LENGTHS),), generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "labels": labels}


def sub_networks(model: nn.Module, data: dict[str, Tensor]) -> dict[str, Any]:
    """Scores, states and losses of all twelve."""
    found: dict[str, Any] = {}
    for depth in DEPTHS:
        for width in WIDTHS:
            resize(model, width, depth)
            with torch.no_grad():
                loss, logits, states, _, _ = model(**data)
            name = f"{width}/{depth}"
            found |= {f"{name}/loss": loss, f"{name}/logits": logits}
            found |= {f"{name}/states": torch.stack(states).float()}
    resize(model, 1.0, 1.0)
    with torch.no_grad():
        model(**data)  # attention keeps the number of heads of its last call
    return found


def resize(model: nn.Module, width: float, depth: float) -> None:
    """Set the official attributes."""
    model.apply(lambda module: setattr(module, "width_mult", width))
    model.apply(lambda module: setattr(module, "depth_mult", depth))


def arguments(**settings: Any) -> Namespace:
    """What the official functions read of the command line."""
    folder = tempfile.mkdtemp()
    made = Namespace(
        task_name="none", output_dir=folder, device=torch.device("cpu"), n_gpu=0, seed=SEED,
        model_type="bert", per_gpu_eval_batch_size=2, per_gpu_train_batch_size=len(LENGTHS),
        gradient_accumulation_steps=1, num_train_epochs=STEPS, warmup_steps=0, weight_decay=0.0,
        learning_rate=RATE, logging_steps=0, evaluate_during_training=False, data_aug=True,
        output_mode="classification", width_mult_list=list(WIDTHS), depth_mult_list=list(DEPTHS),
        width_lambda1=1.0, width_lambda2=0.1, depth_lambda1=1.0, depth_lambda2=1.0,
    )  # fmt: skip
    return Namespace(**(vars(made) | settings))


def rows(data: dict[str, Tensor]) -> TensorDataset:
    """As the official code reads data sets."""
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return TensorDataset(*(data[name] for name in names))


def stage(code: Any, phase: str, model: nn.Module, teacher: Any, data: Any) -> dict[str, Any]:
    """Losses and summed gradients of the first update, and all parameters after the last."""
    losses: list[Tensor] = []
    gradients: list[dict[str, Tensor]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def record(parameters: Any, norm: float) -> Any:
        named = model.named_parameters()
        gradients.append({n: p.grad.clone().float() for n, p in named if p.grad is not None})
        return clip(parameters, norm)

    depths = [1.0] if phase == "dynabertw" else list(DEPTHS)
    given = arguments(training_phase=phase, depth_mult_list=depths)
    code.print = lambda loss: losses.append(loss.detach().clone())
    with patch.object(torch.nn.utils, "clip_grad_norm_", record):
        code.train(given, rows(data), model, None, teacher)
    del code.print
    resize(model, 1.0, 1.0)
    found = {"losses": torch.stack(losses).view(STEPS, -1)}
    found |= {f"grad/{name}": gradient for name, gradient in gradients[0].items()}
    return found | {f"after/{n}": p.detach().float() for n, p in model.named_parameters()}


def numbers(code: Any, generator: torch.Generator) -> dict[str, Any]:
    """Everything of BERT: sub-networks, importances, the rewired model, and three stages."""
    model = code.BertForSequenceClassification(official_config(code.BertConfig)).double().eval()
    weights, data = fill(model, generator), batch(generator)
    found: dict[str, Any] = {f"weight/{name}": whole for name, whole in weights.items()}
    found |= {f"batch/{name}": tensor for name, tensor in data.items()}
    found |= {f"plain/{name}": value for name, value in sub_networks(model, data).items()}
    teacher = copy.deepcopy(model)
    with patch.object(code, "load_and_cache_examples", lambda *_, **__: rows(data)):
        heads, neurons = code.compute_neuron_head_importance(arguments(), model, None)
    found |= {"importance/heads": heads, "importance/neurons": torch.stack(neurons)}
    model.zero_grad()
    code.reorder_neuron_head(model, heads, neurons)
    twelve = sub_networks(model, data).items()
    found |= {f"rewired/{k}": v for k, v in twelve if not k.endswith("states")}
    for name, phase in STAGES.items():
        given = None if name == "tuned" else teacher
        student = copy.deepcopy(model)
        found |= {f"{name}/{k}": v for k, v in stage(code, phase, student, given, data).items()}
    return found


def roberta(code: Any, generator: torch.Generator) -> dict[str, Any]:
    """Sub-networks of RoBERTa, of sentences without padding: officially that has positions too."""
    config = official_config(code.RobertaConfig, type_vocab_size=1, layer_norm_eps=1e-5)
    model = code.RobertaForSequenceClassification(config).double().eval()
    weights, data = fill(model, generator), batch(generator)
    whole = {"attention_mask": torch.ones_like(data["input_ids"])}
    whole["token_type_ids"] = torch.zeros_like(data["input_ids"])
    found: dict[str, Any] = {f"weight/{name}": array for name, array in weights.items()}
    found |= {"batch/input_ids": data["input_ids"], "batch/labels": data["labels"]}
    twelve = sub_networks(model, data | whole).items()
    return found | {f"plain/{k}": v for k, v in twelve if not k.endswith("states")}


def augmentation(generator: torch.Generator) -> dict[str, Any]:
    """Candidates and new sentences of TinyBERT's script, with a tiny model and tiny vectors."""
    import data_augmentation as code  # type: ignore[import-not-found]

    np.Inf = np.inf  # type: ignore[attr-defined]  # as it was called then
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS, ",", "."]) + "\n")
        (folder / "vectors.txt").write_text(vectors(generator))
        tokenizer = code.BertTokenizer.from_pretrained(str(folder))
        emb = code.prepare_embedding_retrieval(str(folder / "vectors.txt"), len(neighbours()))
    config = sys.modules["transformer.modeling"].BertConfig(
        len(SPECIAL) + len(WORDS) + 2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32, **OFF,
    )  # fmt: skip
    model = code.BertForMaskedLM(config).double().eval()
    weights = fill(model, generator)
    maker = code.DataAugmentor(model, tokenizer, *emb, CANDIDATES, VARIANTS, CHANCE)
    random.seed(SEED)
    with torch.no_grad():
        made = [maker.augment(sentence) for sentence in SENTENCES]
    found: dict[str, Any] = {f"weight/{k}": v for k, v in weights.items()}
    found |= {f"sentences/{i}": np.array(texts) for i, texts in enumerate(made)}
    generator.manual_seed(SEED)
    return found | {"vectors": np.array(vectors(generator))}


def neighbours() -> tuple[str, ...]:
    """Words with vectors; those of several pieces are among them."""
    return ("running", "runner", "walking", "badly", "goodly", "sitting", "jumper", "<unk>")


def vectors(generator: torch.Generator) -> str:
    """A file as GloVe's: a word and its numbers in each line."""
    numbers = torch.randn(len(neighbours()), 4, generator=generator)
    lines = zip(neighbours(), numbers.tolist(), strict=True)
    return "".join(f"{word} {' '.join(f'{n:.4f}' for n in row)}\n" for word, row in lines)


def main(dynabert: str, tinybert: str) -> None:
    """Write `official.npz`."""
    sys.path[:0] = [dynabert, tinybert]
    import run_glue  # type: ignore[import-not-found]

    arrays: dict[str, Any] = {}
    for name, made in (
        ("bert", numbers(run_glue, torch.Generator().manual_seed(SEED))),
        ("roberta", roberta(run_glue, torch.Generator().manual_seed(SEED))),
        ("augmentation", augmentation(torch.Generator().manual_seed(SEED))),
    ):
        arrays |= {f"{name}/{key}": value for key, value in made.items()}
    kept: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(HERE / "official.npz", **kept)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
