"""ConvBERT as transformers and the library see it: start, files, training, growth, and sharing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import embshare
from embshare.errors import InvalidValueError
from embshare.models.convbert import (
    ConvBertConfig,
    ConvBertForPreTraining,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
    ConvBertModel,
    masking,
    pretraining,
)
from embshare.models.convbert.attention import MixedAttention
from embshare.models.convbert.model import ConvBertLayer
from tests.integration.models.convbert.examples import IDS, MASK, TYPES, config, made

AUTO: dict[Any, Any] = {
    ConvBertModel: AutoModel,
    ConvBertForPreTraining: AutoModelForPreTraining,
    ConvBertForSequenceClassification: AutoModelForSequenceClassification,
    ConvBertForQuestionAnswering: AutoModelForQuestionAnswering,
}
every_class = pytest.mark.parametrize("kind", AUTO)


def built(kind: Any, **settings: Any) -> Any:
    """A model of a test's size at its start."""
    torch.manual_seed(0)
    return kind(config(**settings))


def outputs(model: nn.Module) -> Any:
    """Batch with labels for every head."""
    given: dict[str, Any] = {
        "input_ids": IDS,
        "attention_mask": MASK,
        "token_type_ids": TYPES,
    }
    match model:
        case ConvBertForPreTraining():
            given["generator"] = torch.Generator().manual_seed(3)
        case ConvBertForSequenceClassification():
            given["labels"] = torch.tensor([0, 1])
        case ConvBertForQuestionAnswering():
            given |= {"start_positions": torch.tensor([3, 2])}
            given |= {"end_positions": torch.tensor([5, 4])}
    return model(**given)


def loss_of(model: nn.Module) -> Tensor:
    """A number that every parameter moves."""
    found = outputs(model)
    loss: Tensor = found.loss if "loss" in found else found.last_hidden_state.pow(3).sum()
    return loss


# ---------------------------------------------------------------- the start


def test_the_start_is_the_official_one() -> None:
    model = built(
        ConvBertForPreTraining,
        vocab_size=500,
        embedding_size=64,
        hidden_size=128,
        intermediate_size=256,
        num_groups=2,
        conv_kernel_size=9,
    )
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if "norm.weight" in name:
            assert bool((values == 1).all()), name
        elif name.endswith("bias"):
            assert not values.any(), name
        elif "project" in name or "score" in name:  # Glorot-uniform
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.9 * bound < float(values.abs().max()) <= bound, name
        else:
            std = 1 / 9 if "depthwise" in name else 0.02
            assert 0 < float(values.abs().max()) <= 2 * std, name
            if values.numel() >= 1000:  # a normal law cut off at two deviations
                assert float(values.std()) == pytest.approx(0.88 * std, rel=0.1), name


def test_heads_for_tasks_start_glorot_uniform() -> None:
    model = built(ConvBertForQuestionAnswering, answer_hidden_size=512)
    bound = (6 / (512 + 32)) ** 0.5
    for head in (model.end, model.impossible):
        assert 0.9 * bound < float(head.dense.weight.detach().abs().max()) <= bound


# ---------------------------------------------------------------- files


def test_transformers_own_model_type_is_left_alone() -> None:
    assert ConvBertConfig.model_type == "embshare-convbert"
    assert type(AutoConfig.for_model("convbert")) is not ConvBertConfig


@pytest.mark.parametrize(
    "kind", [ConvBertForSequenceClassification, ConvBertForQuestionAnswering, ConvBertModel]
)
def test_what_is_pretrained_is_the_body_of_any_task(kind: Any, tmp_path: Path) -> None:
    pretrained = made(ConvBertForPreTraining)
    pretrained.save_pretrained(tmp_path)
    model, info = kind.from_pretrained(tmp_path, dtype=torch.double, output_loading_info=True)
    body = model if kind is ConvBertModel else model.convbert
    assert not any("encoder" in name or "embeddings" in name for name in info["missing_keys"])
    theirs = pretrained.convbert.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in body.state_dict().items())


def test_a_grown_vocabulary_is_scored_too(tmp_path: Path) -> None:
    model = built(ConvBertForPreTraining).eval()
    model.resize_token_embeddings(45)
    assert outputs(model).generator_logits.shape == (2, 4, 45)
    assert model.generator_head.bias.shape == (45,)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(loss_of(loaded), loss_of(model))


# ---------------------------------------------------------------- training


@every_class
def test_every_parameter_gets_a_gradient(kind: Any) -> None:
    model = made(kind)
    loss_of(model).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_classifier_has_a_dropout_of_its_own() -> None:
    noisy = made(ConvBertForSequenceClassification, classifier_dropout=0.5)
    quiet = made(ConvBertForSequenceClassification)
    assert torch.equal(outputs(noisy.eval()).logits, outputs(quiet).logits)
    assert not torch.allclose(outputs(noisy.train()).logits, outputs(noisy).logits)


def test_the_trainer_takes_it_as_its_own(tmp_path: Path) -> None:
    model = built(ConvBertForPreTraining, discriminator_weight=5.0)
    rows = [{"input_ids": IDS[i % 2], "attention_mask": MASK[i % 2]} for i in range(8)]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=30,
        learning_rate=0.01,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        seed=1,
    )
    before = float(loss_of(model).detach())
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    assert float(loss_of(model.eval()).detach()) < 0.9 * before


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the tracer's own look
@pytest.mark.parametrize("shared", [False, True])
def test_it_compiles_without_graph_breaks(shared: bool) -> None:
    model = made(ConvBertForSequenceClassification, num_groups=2)
    if shared:
        embshare.share_from_embedding(model)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IDS, MASK, TYPES).logits, model(IDS, MASK, TYPES).logits)


# ---------------------------------------------------------------- random masks


def test_a_seeded_step_of_pretraining_is_repeated_exactly() -> None:
    model = made(ConvBertForPreTraining)
    assert torch.equal(outputs(model).loss, outputs(model).loss)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(5)]
    losses = {float(model(IDS, MASK, TYPES, generator=seed).loss.detach()) for seed in seeds}
    assert len(losses) == 5
    torch.manual_seed(3)
    global_state = model(IDS, MASK, TYPES).loss
    torch.manual_seed(3)
    assert torch.equal(model(IDS, MASK, TYPES).loss, global_state)


def test_a_sequence_without_words_to_mask_is_refused() -> None:
    model = built(ConvBertForPreTraining)
    with pytest.raises(InvalidValueError) as caught:
        model(torch.tensor([[1, 9, 2], [1, 3, 2]]))
    assert str(caught.value) == (
        "the input is not valid: a sequence has no word to mask: leave out those of special "
        "tokens alone."
    )


def test_a_token_that_is_drawn_again_is_not_a_replaced_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[Any] = []

    def mask_words(*given: Any) -> Any:
        kept.append(masking.mask_words(*given))
        return kept[-1]

    monkeypatch.setattr(pretraining, "mask_words", mask_words)
    monkeypatch.setattr(pretraining, "draw_words", lambda *_: kept[-1].words)
    found = outputs(made(ConvBertForPreTraining))
    assert kept[-1].scored.any()
    assert torch.equal(found.corrupted_ids, IDS)
    assert not found.replaced.any()


# ---------------------------------------------------------------- heads


def test_a_classifier_is_one_layer_on_the_first_position() -> None:
    model = made(ConvBertForSequenceClassification, num_labels=3)
    first = model.convbert(IDS, MASK, TYPES).last_hidden_state[:, 0]
    expected = first @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(IDS, MASK, TYPES).logits, expected)


@torch.no_grad()
def test_heads_that_nothing_reads_change_nothing() -> None:
    all_heads, one = (MixedAttention(config(head_ratio=ratio)).double() for ratio in (1, 4))
    for name, parameter in one.named_parameters():
        rows = all_heads.get_parameter(name)
        if "depthwise" in name:
            parameter.copy_(rows)
        elif name == "conv_kernel.weight":
            rows[: len(parameter), 4:] = 0
            parameter.copy_(rows[: len(parameter), :4])
        else:
            parameter.copy_(rows[: len(parameter)])
    x, mask = torch.randn(2, 7, 16).double(), (1.0 - MASK[:, None, None].double()) * -1e4
    wide, narrow = all_heads(x, mask), one(x, mask)
    assert wide.shape == (2, 7, 32)
    torch.testing.assert_close(wide[..., :4], narrow[..., :4])
    torch.testing.assert_close(wide[..., 16:20], narrow[..., 4:])


# ---------------------------------------------------------------- the input


def test_padding_leaks_through_the_convolution_and_not_through_attention() -> None:
    layer = MixedAttention(config())
    x, mask = torch.randn(1, 7, 16), torch.zeros(1, 1, 1, 7)
    mask[..., 5:] = -10000.0
    moved = x.clone()
    moved[:, 5:] += 1
    first, again = (layer(states, mask) for states in (x, moved))
    attended, convolved = (first - again)[0, :5].abs().amax(0).chunk(2)
    assert not attended.any(), "a masked key is not seen"
    assert bool(convolved.any()), "but it is in the window of the words before it"
    assert not (first - again)[0, 0].any(), "a window ends, here after four positions"


def test_a_kernel_of_its_centre_alone_gives_the_values_back() -> None:
    layer = MixedAttention(config()).eval()
    with torch.no_grad():
        layer.conv_kernel.weight.zero_()
        layer.conv_kernel.bias.view(2, 5).copy_(torch.tensor([0.0, 0, 1e4, 0, 0]))
        x = torch.randn(2, 7, 16)
        torch.testing.assert_close(layer(x, None)[..., 8:], layer.conv_value(x))


def test_the_passage_of_an_answer_must_be_told() -> None:
    with pytest.raises(InvalidValueError, match="must be given: 1 in the passage"):
        built(ConvBertForQuestionAnswering)(IDS)


def test_a_position_outside_of_the_sequence_is_not_scored() -> None:
    model = made(ConvBertForQuestionAnswering)
    given = {"attention_mask": MASK, "token_type_ids": TYPES}
    found = model(
        IDS, start_positions=torch.tensor([3, 99]), end_positions=torch.tensor([5, 99]), **given
    )
    one = {name: tensor[:1] for name, tensor in given.items()}
    alone = model(
        IDS[:1], start_positions=torch.tensor([3]), end_positions=torch.tensor([5]), **one
    )
    none = nn.functional.softplus(found.impossible_logits)
    spans = (alone.loss - 0.5 * none[0]) / 2
    torch.testing.assert_close(found.loss, spans + 0.5 * none.mean())


# ---------------------------------------------------------------- sharing


@every_class
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_shared_like_any_other_model(kind: Any, groups: int, tmp_path: Path) -> None:
    model = built(kind, num_groups=groups, num_hidden_layers=4)
    before = sum(p.numel() for p in model.parameters())
    embshare.share_from_embedding(model)
    assert sum(p.numel() for p in model.parameters()) < 0.6 * before
    for layer in model.modules():
        if isinstance(layer, ConvBertLayer):
            dense = [name for name, p in layer.named_parameters() if p.dim() > 1]
            assert dense == [], "all kinds of layers are known, grouped ones too"

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    started = float(loss_of(model).detach())
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    assert float(loss_of(model).detach()) < started
    assert [name for name, p in model.named_parameters() if p.grad is None] == []

    embshare.save(model, tmp_path)
    loaded = embshare.load(tmp_path, built(kind, num_groups=groups, num_hidden_layers=4))
    assert torch.equal(loss_of(loaded.eval()), loss_of(model.eval()))
    plain = embshare.materialize(model)
    assert sum(p.numel() for p in plain.parameters()) == before
    torch.testing.assert_close(loss_of(plain), loss_of(model))


def test_a_factorised_table_scores_the_generators_words_too() -> None:
    model = built(ConvBertForPreTraining, vocab_size=60)
    embshare.share_from_embedding(model, embshare.ShareConfig(factor=4))
    loss_of(model).backward()
    plain = embshare.materialize(model)
    torch.testing.assert_close(loss_of(plain), loss_of(model))
