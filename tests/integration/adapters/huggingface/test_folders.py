"""`save_pretrained` and `from_pretrained` of shared models, in one process."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

import embshare
from embshare import ShareConfig
from embshare.errors import (
    CheckpointError,
    DerivedWeightError,
    NotSharedError,
    StateMismatchError,
)
from embshare.runtime.bank import bank_of
from embshare.sharing import BANK
from tests._support.huggingface_families import FAMILIES, IDS, bert, gpt2, llama, logits, t5

pytestmark = pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys

CONFIGS = {
    "default": ShareConfig(),
    "untied": ShareConfig(tie="none"),
    "anchor": ShareConfig(anchor=4.0, column_bias=True),
    "factor": ShareConfig(factor=4),
    "normed": ShareConfig(factor=4, factor_norm=True),
    "relaxed": ShareConfig(gain="channel", residual_rank=2),
    "own": ShareConfig(method="own"),
    "own-channel": ShareConfig(method="own", gain="channel"),
}


def saved(folder: Path, name: str = "bert", config: ShareConfig | None = None) -> Any:
    """A shared model of a family, saved."""
    model = embshare.share_from_embedding(FAMILIES[name](), config)
    model.save_pretrained(folder)
    return model


def described(folder: Path) -> dict[str, Any]:
    """The entry in a folder's configuration."""
    found = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert isinstance(found, dict)
    return found


def same(loaded: Any, model: Any) -> bool:
    """Equal stored tensors under equal names, and equal outputs, bit by bit.

    Gains are compared by the outputs: a head that was resized has none in the folder any more.
    """
    ours, theirs = (
        {name: tensor for name, tensor in one.state_dict().items() if ".scales." not in name}
        for one in (loaded, model)
    )
    return (
        list(ours) == list(theirs)
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
        and torch.equal(logits(loaded), logits(model))
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_saved_is_loaded(name: str, config: ShareConfig, tmp_path: Path) -> None:
    model = saved(tmp_path, name, config)

    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)

    assert same(loaded, model)
    assert not any(report.values())
    assert [name for name, _ in loaded.named_parameters()] == [
        name for name, _ in model.named_parameters()
    ]
    bank, original = bank_of(loaded), bank_of(model)
    assert bank and original and bank.plan == original.plan and not loaded.training


def test_the_folder_is_as_small_as_the_model(tmp_path: Path) -> None:
    model = saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    spreads = "embshare_bank.scales.spreads"
    stored = {n: t for n, t in tensors.items() if t.shape != (1,) or n == spreads}
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    gains = "embshare_bank.scales.gains"
    assert stored.keys() == model.state_dict().keys() - {gains}
    whole = embshare.summarize(model).bytes - model.state_dict()[gains].nbytes
    assert sum(tensor.nbytes for tensor in stored.values()) == whole


def test_the_plan_is_in_the_configuration_of_the_folder_and_of_no_model(tmp_path: Path) -> None:
    model = saved(tmp_path)
    loaded: Any = AutoModel.from_pretrained(tmp_path)
    found = described(tmp_path)
    bank = bank_of(model)
    assert bank and found["plan"] == bank.plan.model_dump(mode="json")
    assert found["quant_method"] == "embshare"
    for one in (model, loaded):
        assert "quantization_config" not in one.config.to_dict()
        assert not getattr(one, "is_quantized", False)
        assert getattr(one, "hf_quantizer", None) is None


def test_saved_again_it_is_the_same_folder(tmp_path: Path) -> None:
    model = saved(tmp_path / "first", "t5", ShareConfig(gain="learned"))
    loaded = type(model).from_pretrained(tmp_path / "first")
    loaded.save_pretrained(tmp_path / "second")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_trained_on_and_saved_again(name: str, tmp_path: Path) -> None:
    loaded = type(saved(tmp_path, name)).from_pretrained(tmp_path).train()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded(input_ids=IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    optimizer.step()
    loaded.save_pretrained(tmp_path)
    assert same(type(loaded).from_pretrained(tmp_path), loaded)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=4)], ids=["plain", "factor"])
def test_sharded_files(config: ShareConfig, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert(), config)
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert same(type(model).from_pretrained(tmp_path), model)


@pytest.mark.parametrize(
    "how",
    [
        {"device_map": "cpu"},
        {"device_map": "auto"},
        {"device_map": "balanced", "max_memory": {"cpu": "1GB"}},
        {"device_map": {"": "cpu"}},
        {"device_map": {"bert": "cpu", "cls": "cpu"}},
        {"device_map": torch.device("cpu")},
        {"low_cpu_mem_usage": True},
        {"use_safetensors": True},
    ],
    ids=str,
)
def test_ways_of_loading(how: dict[str, Any], tmp_path: Path) -> None:
    model = saved(tmp_path, config=ShareConfig(factor=4))
    assert same(type(model).from_pretrained(tmp_path, **how), model)


def test_a_map_over_several_devices_is_refused(tmp_path: Path) -> None:
    kind = type(saved(tmp_path))
    with pytest.raises(CheckpointError, match=r"several devices \(cpu, disk\)"):
        kind.from_pretrained(tmp_path, device_map={"bert": "cpu", "cls": "disk"})


def test_a_model_on_disk_is_refused(tmp_path: Path) -> None:
    """Its layers would read a table whose values are elsewhere."""
    kind = type(saved(tmp_path))
    with pytest.raises(CheckpointError, match="places a shared model on disk"):
        kind.from_pretrained(tmp_path, device_map={"": "disk"}, offload_folder=tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_a_model_on_meta_has_shapes(tmp_path: Path) -> None:
    kind = type(saved(tmp_path))
    loaded = kind.from_pretrained(tmp_path, device_map="meta")
    assert {parameter.device.type for parameter in loaded.parameters()} == {"meta"}
    plain = embshare.materialize(loaded)
    assert [parameter.shape for parameter in plain.parameters()] == [
        parameter.shape for parameter in bert().parameters()
    ]


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=4)], ids=["plain", "factor"])
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_another_type(name: str, config: ShareConfig, tmp_path: Path) -> None:
    model = saved(tmp_path, name, config)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(logits(loaded), logits(copy.deepcopy(model).to(torch.bfloat16)))
    loaded.save_pretrained(tmp_path / "half")
    assert type(model).from_pretrained(tmp_path / "half", dtype="auto").dtype is torch.bfloat16


def test_a_loaded_model_can_be_cast_and_moved(tmp_path: Path) -> None:
    loaded = type(saved(tmp_path)).from_pretrained(tmp_path)
    assert loaded.half().dtype is torch.float16
    assert loaded.float().to("cpu", torch.float64).dtype is torch.float64


@pytest.mark.parametrize("name", ["bert", "bert-untied", "gpt2", "gpt2-untied", "llama", "t5"])
@pytest.mark.parametrize("factor", [None, 4])
def test_a_grown_vocabulary(name: str, factor: int | None, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(FAMILIES[name](), ShareConfig(factor=factor))
    before = logits(model)
    model.resize_token_embeddings(110, mean_resizing=False)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert same(loaded, model)
    assert logits(loaded).shape[-1] == 110
    torch.testing.assert_close(logits(loaded)[..., :101], before)


@pytest.mark.parametrize("gain", ["match", "channel"])
def test_a_head_that_was_replaced_is_stored(gain: Any, tmp_path: Path) -> None:
    model = embshare.share_from_embedding(llama(), ShareConfig(gain=gain))
    model.resize_token_embeddings(110, mean_resizing=False)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    weights = [name for slot in described(tmp_path)["plan"]["slots"] for name in slot["weights"]]
    assert "lm_head.weight" not in weights
    assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].shape == (110, 16)


def test_ties_that_no_configuration_knows(tmp_path: Path) -> None:
    model = llama()
    model.lm_head.weight = model.model.embed_tokens.weight
    model.model.layers[1].input_layernorm.weight = model.model.layers[0].input_layernorm.weight
    embshare.share_from_embedding(model, ShareConfig(factor=4))
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight.add_(0.5)
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert same(loaded, model)
    assert not any(report.values())
    first, second = (layer.input_layernorm.weight for layer in loaded.model.layers)
    assert first is second


def test_a_derived_head_that_the_configuration_ties(tmp_path: Path) -> None:
    """As in a T5 of transformers 4 that is read by 5, which ties every T5."""
    model = llama()
    assert not model.config.tie_word_embeddings
    embshare.share_from_embedding(model)
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tie_word_embeddings": True}))
    if not hasattr(type(model), "get_expanded_tied_weights_keys"):  # 4.57 ties by assignment
        with pytest.raises(DerivedWeightError, match="cannot be assigned"):
            type(model).from_pretrained(tmp_path)
        return
    assert same(type(model).from_pretrained(tmp_path), model)


def test_a_bias_of_a_derived_layer_that_is_another_one(tmp_path: Path) -> None:
    model = FAMILIES["bert-untied"]()
    model.cls.predictions.decoder.bias = model.cls.predictions.bias
    embshare.share_from_embedding(model)
    with torch.no_grad():
        model.cls.predictions.bias.add_(1)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert same(loaded, model)
    assert loaded.cls.predictions.decoder.bias is loaded.cls.predictions.bias


def test_fused_experts(tmp_path: Path) -> None:
    config = ShareConfig(include=("*", *embshare.bare_weights(FAMILIES["mixtral"]())))
    model = saved(tmp_path, "mixtral", config)
    assert same(type(model).from_pretrained(tmp_path), model)
    assert not any("experts" in name for name in model.state_dict())


def test_tie_weights_changes_nothing(tmp_path: Path) -> None:
    model = saved(tmp_path, "t5", ShareConfig(factor=4))
    loaded = type(model).from_pretrained(tmp_path)
    loaded.tie_weights()
    assert same(loaded, model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_generate(name: str, tmp_path: Path) -> None:
    model = saved(tmp_path, name)
    loaded = type(model).from_pretrained(tmp_path)
    bank = bank_of(loaded)
    assert bank
    bank.evaluations = 0
    how: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(loaded.generate(IDS, **how), model.eval().generate(IDS, **how))
    assert bank.evaluations == 1


def test_the_weights_file_is_a_state_dict(tmp_path: Path) -> None:
    model = saved(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    bank = bank_of(model)
    assert bank
    other = embshare.share_from_embedding(bert(), bank.plan)
    other.load_state_dict(state)
    assert same(other, model)
    stranger = embshare.share_from_embedding(bert())
    stranger.load_state_dict(state)  # with its gains
    assert same(stranger, model)
    other_layout = embshare.share_from_embedding(bert(), ShareConfig(tie="none"))
    with pytest.raises(StateMismatchError, match=r"tie=none.*but is of veps, tie=all"):
        other_layout.load_state_dict(state)


def test_a_copy_saves_itself(tmp_path: Path) -> None:
    model = saved(tmp_path)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight.mul_(2)
    other.save_pretrained(tmp_path)
    assert same(type(model).from_pretrained(tmp_path), other)


def test_a_pickled_model_saves_itself(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert())
    torch.save(model, tmp_path / "model.pt")
    torch.load(tmp_path / "model.pt", weights_only=False).save_pretrained(tmp_path)
    assert same(type(model).from_pretrained(tmp_path), model)


def test_a_state_dict_that_is_handed_over_is_what_is_written(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert())
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=state)
    loaded = type(model).from_pretrained(tmp_path)
    numbers = {n: t for n, t in loaded.state_dict().items() if ".scales." not in n}
    assert not any(tensor.any() for tensor in numbers.values())


def test_a_part_of_a_shared_model_cannot_be_saved(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(t5())
    with pytest.raises(NotSharedError, match="T5Stack is not shared, or is a part of"):
        model.encoder.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_quantized_too_cannot_be_saved(tmp_path: Path) -> None:
    model = embshare.share_from_embedding(bert())
    model.hf_quantizer, model.quantization_method = object(), "torchao"
    with pytest.raises(CheckpointError, match="quantized by torchao too"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_materialized_it_is_a_plain_folder(config: ShareConfig, tmp_path: Path) -> None:
    saved(tmp_path / "shared", "gpt2", config)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "shared")
    plain = embshare.materialize(loaded)
    if config.factor_norm:  # its head is a separate one, which 4.57 asks the configuration for
        plain.config.tie_word_embeddings = False
    plain.save_pretrained(tmp_path / "plain")
    assert "quantization_config" not in json.loads((tmp_path / "plain/config.json").read_text())
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert bank_of(again) is None
    assert all(t.shape != (1,) for t in load_file(tmp_path / "plain/model.safetensors").values())
    torch.testing.assert_close(logits(again), logits(loaded))
    assert "save_pretrained" not in plain.__dict__ and "save_pretrained" in loaded.__dict__
    plain.load_state_dict(plain.state_dict())


def test_a_copy_leaves_the_dense_model_as_it_is(tmp_path: Path) -> None:
    model = gpt2()
    embshare.share_from_embedding(model, inplace=False)
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert not any(BANK in name for name in load_file(tmp_path / "model.safetensors"))
