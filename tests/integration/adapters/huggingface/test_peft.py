"""Adapters on top of models that came out of a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import embshare
from embshare import ShareConfig
from embshare.errors import DerivedWeightError
from embshare.runtime.bank import bank_of
from tests._support.huggingface_families import FAMILIES, IDS, logits

peft = pytest.importorskip("peft")

# A name that transformers 5.23 has given a second one, and PEFT still calls by the first.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_an_adapter_on_top(name: str, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(FAMILIES[name](), ShareConfig(factor=4))
    model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    targets = ["c_attn"] if name == "gpt2" else ["q_proj", "v_proj"]
    lora = peft.LoraConfig(target_modules=targets, r=2, fan_in_fan_out=name == "gpt2")
    adapted = peft.get_peft_model(base, lora)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # the first step moves B alone, which starts at zero
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    adapted.save_pretrained(tmp_path / "adapter")

    fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter")

    assert all(torch.equal(tensor, before[name]) for name, tensor in base_state(adapted).items())
    assert torch.equal(logits(loaded), logits(adapted))
    assert not torch.equal(logits(loaded), logits(model))
    assert sum(p.stat().st_size for p in (tmp_path / "adapter").glob("*.safetensors")) < 20_000
    assert "plan" not in (tmp_path / "adapter" / "README.md").read_text()
    by_folder = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(by_folder), logits(adapted))


def base_state(adapted: Any) -> dict[str, torch.Tensor]:
    """What an adapted model stores besides the adapter, under the names that it had before."""
    state = adapted.base_model.model.state_dict()
    return {n.replace(".base_layer", ""): t for n, t in state.items() if "lora_" not in n}


def test_an_adapter_of_transformers_itself(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(FAMILIES["llama"]())
    model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    base.add_adapter(peft.LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False))
    base.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "config.json").exists()
    fresh = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    fresh.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(logits(fresh), logits(base))


def test_a_model_under_an_adapter_does_not_save_half_of_itself(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(FAMILIES["llama"]())
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(embshare.EmbshareError, match="as when an adapter wraps its layer"):
        model.save_pretrained(tmp_path)


def adapted(name: str, *targets: str) -> Any:
    """A shared model with a LoRA adapter that computes something."""
    torch.manual_seed(0)
    config = ShareConfig(exclude=("lm_head.*",) if name == "llama" else ())
    model = embshare.share_from_embedding(FAMILIES[name](), config)
    lora = peft.LoraConfig(
        target_modules=list(targets),
        r=2,
        init_lora_weights=False,
        fan_in_fan_out=name == "gpt2",
    )
    return peft.get_peft_model(model, lora)


@pytest.mark.parametrize(
    ("name", "targets", "why"),
    [
        ("gpt2", ["c_attn"], "its weight is derived from a table"),
        ("llama", ["lm_head", "q_proj"], "q_proj` cannot be merged: its weight is derived"),
        ("llama", ["embed_tokens"], "other layers' weights are derived from its own"),
    ],
)
@pytest.mark.parametrize("method", ["merge_and_unload", "merge_adapter"])
def test_nothing_is_merged_into_derived_weights(
    name: str, targets: list[str], why: str, method: str
) -> None:
    model = adapted(name, *targets)
    before = logits(model)
    with pytest.raises(DerivedWeightError, match=rf"{why}.*embshare\.materialize\(model, inplace"):
        getattr(model, method)()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_merged_into_the_plain_model_it_computes_the_same(name: str, tmp_path: Path) -> None:
    model = adapted(name, "c_attn" if name == "gpt2" else "q_proj")
    before = logits(model)
    merged = embshare.materialize(model, inplace=True).merge_and_unload()
    assert bank_of(merged) is None
    torch.testing.assert_close(logits(merged), before)
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(merged))


def test_an_adapter_of_a_dense_layer_can_be_merged(tmp_path: Path) -> None:
    model = adapted("llama", "lm_head")
    before = logits(model)
    merged = model.merge_and_unload()
    assert bank_of(merged) is not None
    torch.testing.assert_close(logits(merged), before)
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(merged))


def test_taken_off_again_it_is_the_shared_model() -> None:
    model = adapted("llama", "q_proj")
    with model.disable_adapter():
        before = logits(model)
    assert torch.equal(logits(model.unload()), before)
