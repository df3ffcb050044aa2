"""Shared models inside fairseq: generation, weight norms, increments, half precision, sources."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.adapters.fairseq import PLUGIN
from embshare.adapters.fairseq.building import dictionary
from embshare.adapters.fairseq.inputs import TOKENS, batch
from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sharing import share
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.runtime.bank import bank_of, require_bank
from tests.architectures.fairseq_models import loss_of, settings, tiny

pytestmark = pytest.mark.fairseq

FAMILIES = {
    "lstm": "lstm",
    "fconv": "fconv",
    "transformer": "transformer",
    "lightconv": "lightconv",
}
CONFIG = embshare.ShareConfig(factor=16)


@pytest.fixture(autouse=True)
def installed() -> None:
    from embshare.adapters.fairseq.hooks import install

    install()
    install()  # twice is once


def made(arch: str, **own: object) -> Any:
    torch.manual_seed(1)
    return tiny(arch, {**settings(FAMILIES.get(arch, arch)), **own}).eval()


def shared(arch: str, config: embshare.ShareConfig = CONFIG, **own: object) -> Any:
    return share(made(arch, **own), config)


def generate(model: nn.Module) -> list[tuple[list[int], float]]:
    """The best of three hypotheses for each sentence, with its score."""
    make = import_module("fairseq.sequence_generator").SequenceGenerator

    source, lengths, *_ = batch()
    sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
    words = dictionary(TOKENS)
    generator = make([model], words, beam_size=3, max_len_b=9, min_len=4)
    found = generator.generate([model], sample)
    return [(best[0]["tokens"].tolist(), float(best[0]["score"])) for best in found]


def assert_same(found: list[tuple[list[int], float]], wanted: object, rel: float = 1e-5) -> None:
    """The same tokens; scores but for rounding, as weights are derived one by one or at once."""
    assert [(tokens, pytest.approx(score, rel=rel)) for tokens, score in found] == wanted


@pytest.mark.parametrize("arch", FAMILIES)
def test_generation_equals_the_plain_models_and_derives_once(arch: str) -> None:
    model = shared(arch)
    plain = embshare.materialize(model)
    bank = require_bank(model)
    before = bank.evaluations
    found = generate(model)
    # One for each source, and some more where a weight norm asks for its direction first; without
    # `keeping` it is one for each layer and token.
    assert bank.evaluations - before <= len(bank.plan.slots)
    assert_same(found, generate(plain))
    assert len({score for _, score in found}) == 2


@pytest.mark.parametrize("arch", FAMILIES)
def test_made_fast_it_generates_the_same(arch: str) -> None:
    model = shared(arch)
    expected = generate(model)
    model.make_generation_fast_(beamable_mm_beam_size=3, need_attn=False)
    assert_same(generate(model), expected)
    normed = arch == "fconv"
    assert (bank_of(model) is None) == normed
    assert not any(name.endswith("weight_v") for name, _ in model.named_parameters())
    with pytest.raises(RuntimeError, match="cannot train after"):
        model.train()


def advance(model: Any) -> torch.Tensor:
    """Scores of the last token, computed one token at a time."""
    source, lengths, before, _ = batch()
    encoded = model.encoder(source, src_lengths=lengths)
    state: dict[str, Any] = {}
    for length in range(1, before.shape[1] + 1):
        scores, *_ = model.decoder(before[:, :length], encoder_out=encoded, incremental_state=state)
    found: torch.Tensor = scores[:1, -1]  # the other sentence ends earlier
    return found


def whole(model: Any) -> torch.Tensor:
    """The same scores, computed at once."""
    source, lengths, before, _ = batch()
    found: torch.Tensor = model(source, lengths, before)[0][:1, -1]
    return found


def step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_of(model).backward()
    optimizer.step()


def write_through_data(model: nn.Module) -> None:
    for parameter in model.parameters():  # as fairseq's fp16 optimizers do
        parameter.data.mul_(1.1)


def replace_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.1


@pytest.mark.parametrize("change", [step, write_through_data, replace_data])
@pytest.mark.parametrize("arch", FAMILIES)
def test_increments_use_the_current_weights(arch: str, change: Callable[[nn.Module], None]) -> None:
    # A linearised convolution may keep its weight across tokens, and would keep it here too long.
    model = shared(arch)
    with torch.no_grad():
        first = advance(model)
        torch.testing.assert_close(first, whole(model), rtol=1e-4, atol=1e-5)
    change(model)
    with torch.no_grad():
        torch.testing.assert_close(advance(model), whole(model), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(advance(model), first, atol=1e-3)


def test_half_precision_generates_as_the_plain_model() -> None:
    model = shared("transformer").half()
    assert_same(generate(model), generate(embshare.materialize(model)), rel=1e-4)


@pytest.mark.parametrize("arch", ["lstm", "transformer"])
def test_tied_and_joined_tables_are_one_source(arch: str) -> None:
    model = shared(arch, share_all_embeddings=True, share_decoder_input_output_embed=True)
    (source,) = require_bank(model).plan.sources
    assert source.name == "encoder.embed_tokens.weight"
    assert "decoder.embed_tokens.weight" in source.tied
    plain = embshare.materialize(model)
    torch.testing.assert_close(loss_of(model), loss_of(plain), rtol=1e-5, atol=1e-6)


def test_encoder_and_decoder_read_each_from_its_own_table() -> None:
    plan = plan_fairseq(made("transformer"), CONFIG, FAIRSEQ_RULES)
    assert plan.config.source == {
        "encoder.*": "encoder.embed_tokens.weight",
        "decoder.*": "decoder.embed_tokens.weight",
    }
    for slot in plan.slots:
        side = plan.sources[slot.material].name.partition(".")[0]
        assert all(name.startswith(f"{side}.") for name in slot.weights)


def test_a_glob_that_nothing_needs_is_left_out() -> None:
    config = CONFIG.model_copy(update={"include": ("decoder.*",)})
    plan = plan_fairseq(made("transformer"), config, FAIRSEQ_RULES)
    assert plan.config.source == {"decoder.*": "decoder.embed_tokens.weight"}


def test_of_a_weight_norm_the_direction_is_derived() -> None:
    model = shared("fconv")
    weights = set(require_bank(model).plan.weights())
    assert "decoder.convolutions.0.weight_v" in weights
    assert "decoder.convolutions.0.weight_g" in dict(model.named_parameters())
    slot = next(
        s for s in require_bank(model).plan.slots if "decoder.convolutions.0.weight_v" in s.weights
    )
    assert (slot.shape, slot.channel) == ((3, 32, 64), 2)


@pytest.mark.parametrize("kind", ["lightweight", "dynamic"])
def test_both_kinds_of_light_convolution(kind: str) -> None:
    model = shared("lightconv", encoder_conv_type=kind, decoder_conv_type=kind)
    name = "conv.weight" if kind == "lightweight" else "conv.weight_linear.weight"
    assert any(weight.endswith(name) for weight in require_bank(model).plan.weights())
    step(model)


def test_the_plugins_folder_has_a_parent_of_its_own() -> None:
    # fairseq puts the parent on sys.path, where a neighbour would hide some other module.
    assert PLUGIN.name == "embshare_fairseq"
    assert [path.name for path in PLUGIN.parent.iterdir() if path.name[0] != "_"] == [PLUGIN.name]
