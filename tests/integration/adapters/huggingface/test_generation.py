"""`generate` in all its ways: one derivation for a call, and the tokens of the dense model."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

import embshare
from embshare.runtime.bank import bank_of
from tests._support import huggingface_families as families
from tests._support.huggingface_families import FAMILIES, IDS, SIZES

# Models without a cache that they know by name are given its name all the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")

MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": families.gpt2,
    "llama": families.llama,
    "sliding window": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=4)
    ),
    "every other layer slides": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, num_key_value_heads=1, head_dim=8, sliding_window=4)
    ),
    "bart": FAMILIES["bart"],
    "t5": families.t5,
    "mamba": families.mamba,
    "rwkv": families.rwkv,
}
PLAIN: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
ACCELERATOR = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="an offloaded cache needs an accelerator to come back to"
)
QUANTO = pytest.mark.skipif(
    find_spec("optimum") is None or find_spec("optimum.quanto") is None,
    reason="a quantized cache needs optimum-quanto",
)
WAYS: dict[str, Any] = {
    "default": {},
    "no cache": {"use_cache": False},
    "static": {"cache_implementation": "static"},
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "top_k": 5},
}
OTHERS: dict[str, Any] = {
    "offloaded": pytest.param({"cache_implementation": "offloaded"}, marks=ACCELERATOR),
    "offloaded static": pytest.param(
        {"cache_implementation": "offloaded_static"}, marks=ACCELERATOR
    ),
    "beams, static": {"num_beams": 2, "cache_implementation": "static"},
    "sampled beams": {"do_sample": True, "num_beams": 2},
    "looked up in the prompt": {"prompt_lookup_num_tokens": 2},
}


def pair(name: str) -> tuple[Any, Any]:
    """A shared model and the plain one that it becomes."""
    torch.manual_seed(0)
    model = embshare.share_from_embedding(MODELS[name]()).eval()
    model.generation_config.eos_token_id = 1000  # never: to the last token
    return model, embshare.materialize(model)


def generated(model: Any, ids: torch.Tensor = IDS, **how: Any) -> torch.Tensor:
    """What a model writes, from one seed."""
    torch.manual_seed(1)
    tokens: torch.Tensor = model.generate(ids, **{**PLAIN, **how})
    return tokens


def evaluations(model: Any) -> int:
    """How many projections there were since the last time."""
    bank = bank_of(model)
    assert bank
    count, bank.evaluations = bank.evaluations, 0
    return count


def compare(name: str, ids: torch.Tensor, how: dict[str, Any]) -> None:
    """One derivation, and the tokens of the dense model."""
    model, plain = pair(name)
    evaluations(model)
    tokens = generated(model, ids, **how)
    assert evaluations(model) == 1
    assert torch.equal(tokens, generated(plain, ids, **how))
    assert tokens.shape[1] >= 6


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_the_tokens_of_the_dense_model(name: str, how: dict[str, Any]) -> None:
    if name == "rwkv" and "num_beams" in how:
        pytest.skip("transformers does not reorder the state of RWKV")
    compare(name, IDS, how)


@pytest.mark.parametrize("how", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("name", ["llama", "bart"])
def test_the_tokens_in_rarer_ways(name: str, how: dict[str, Any]) -> None:
    compare(name, IDS[:1], how)


@QUANTO
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_quantized_cache(name: str) -> None:
    model, plain = pair(name)
    config = {"nbits": 4, "q_group_size": 4, "residual_length": 4, "backend": "quanto"}
    how: dict[str, Any] = {"cache_implementation": "quantized", "cache_config": config}
    evaluations(model)
    assert torch.equal(generated(model, **how), generated(plain, **how))
    assert evaluations(model) == 1


def test_a_cache_that_is_handed_over_is_filled_and_goes_on() -> None:
    model, plain = pair("llama")
    for cache in (DynamicCache, lambda: StaticCache(config=model.config, max_cache_len=32)):
        tokens = []
        for one in (model, plain):
            kept = cache()
            first = generated(one, past_key_values=kept)
            tokens.append(generated(one, first, past_key_values=kept))
        assert torch.equal(*tokens)
        assert tokens[0].shape[1] == IDS.shape[1] + 12


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_an_encoder_decoder_cache(name: str) -> None:
    model, plain = pair(name)
    tokens = [
        generated(one, past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()))
        for one in (model, plain)
    ]
    assert torch.equal(*tokens)
    assert evaluations(model) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart"])
def test_assisted_by_another_shared_model(name: str) -> None:
    model, plain = pair(name)
    torch.manual_seed(2)
    assistant = embshare.share_from_embedding(MODELS[name]()).eval()
    evaluations(model), evaluations(assistant)
    tokens = generated(model, IDS[:1], assistant_model=assistant, max_new_tokens=12)
    assert (evaluations(model), evaluations(assistant)) == (1, 1)
    assert torch.equal(tokens, generated(plain, IDS[:1], max_new_tokens=12))


def test_what_is_kept_ends_with_the_call() -> None:
    model, _ = pair("llama")
    first = generated(model)
    with torch.no_grad():
        model.model.embed_tokens.weight.data.normal_()  # which no version counter sees
    assert torch.equal(generated(model), generated(embshare.materialize(model)))
    assert not torch.equal(generated(model), first)


def test_what_is_kept_ends_with_an_error_too() -> None:
    model, _ = pair("llama")
    with pytest.raises(ValueError, match="max_new_tokens"):
        model.generate(IDS, max_new_tokens=-1)
    evaluations(model)
    model(IDS), model(IDS)  # with gradients, which keep nothing by themselves
    assert evaluations(model) == 2
