"""ShareBERT, ELC-BERT and ConvBERT as transformers sees them: settings, files, training, heads."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from embshare.errors import InvalidValueError
from tests._support.bert_families import (
    FAMILIES,
    IDS,
    MASK,
    Case,
    Family,
    batch_of,
    cases,
    loss_of,
    refused,
)


def each(found: Iterable[Case]) -> pytest.MarkDecorator:
    """Ask it of each case, by its name."""
    listed = list(found)
    return pytest.mark.parametrize("case", listed, ids=[case.name for case in listed])


every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
every_class = each(cases())
every_body = each(cases(lambda family: family.body))
every_classifier = each(cases(lambda family: family.classifier))
every_pretraining = each(cases(lambda family: family.pretraining))
every_masked = each(cases(lambda family: family.pretraining, "sharebert", "elc_bert"))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("family", [*FAMILIES, "dynabert"])
def test_without_transformers_it_says_what_to_install(family: str) -> None:
    code = f"""
import sys
sys.modules["transformers"] = None
import embshare
try:
    import embshare.models.{family}
except embshare.EmbshareError as error:
    print(error)
"""
    info = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert info.stdout == "`transformers` is not installed: pip install 'embshare[hf]'\n"


@every_family
def test_what_no_family_can_be_is_refused(family: Family) -> None:
    hidden = family.config().hidden_size
    for settings, text in (
        (
            {"num_attention_heads": 5},
            f"`hidden_size` must be a multiple of `num_attention_heads` = 5, but is {hidden}",
        ),
        ({"hidden_size": 0}, "`hidden_size` must be a whole number of at least 1, but is 0"),
        ({"vocab_size": "3"}, "`vocab_size` must be a whole number of at least 1, but is '3'"),
        (
            {"hidden_dropout_prob": 1.0},
            "`hidden_dropout_prob` must be at least 0 and below 1, but is 1.0",
        ),
    ):
        assert text in refused(family.config, **settings)
    everything = {"hidden_size": 0, "vocab_size": 0, "attention_probs_dropout_prob": -1}
    assert refused(family.config, **everything).count("must be") == 3


@every_family
def test_settings_that_were_changed_later_are_checked_when_a_model_is_built(
    family: Family,
) -> None:
    settings = family.config()
    settings.num_attention_heads = 7
    with pytest.raises(InvalidValueError, match="must be a multiple of"):
        family.body(settings)


@every_family
def test_settings_survive_json(family: Family, tmp_path: Path) -> None:
    settings = family.config(num_labels=5, hidden_dropout_prob=0.25)
    settings.save_pretrained(tmp_path)
    loaded = type(settings).from_pretrained(tmp_path)
    assert loaded.to_dict() == settings.to_dict()


# ---------------------------------------------------------------- files


@every_pretraining
def test_the_seed_decides(case: Case) -> None:
    def after(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(case.kind(case.family.config(**case.settings)).parameters())

    first, again, other = after(3), after(3), after(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@every_class
def test_a_saved_model_is_loaded_by_its_auto_class(case: Case, tmp_path: Path) -> None:
    model = case.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    auto = case.family.auto[case.kind]
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is case.kind
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    given, got = (dict(m.named_parameters()) for m in (model, loaded))
    assert given.keys() == got.keys()
    assert all(torch.equal(given[name], got[name]) for name in given)
    assert [p.requires_grad for p in given.values()] == [p.requires_grad for p in got.values()]
    ours, theirs = (m(**batch_of(m), return_dict=False) for m in (model, loaded))
    assert isinstance(ours, tuple)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    stored = sum(p.numel() * 4 for p in given.values())
    assert (tmp_path / "model.safetensors").stat().st_size < stored + 200 * len(given)  # for names


@every_pretraining
def test_a_pretrained_encoder_gets_a_new_head(case: Case, tmp_path: Path) -> None:
    pretrained = case.build()
    with torch.no_grad():
        for parameter in pretrained.parameters():
            parameter.add_(0.5)
    pretrained.save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, output_loading_info=True
    )
    assert set(info["missing_keys"]) == case.family.new
    ours, theirs = pretrained.base_model.state_dict(), model.base_model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert model.classifier.weight.shape == (5, model.config.hidden_size)
    for name in case.family.new:  # drawn anew, as it is at the start
        new = model.get_parameter(name).detach()
        assert not new.any() if name.endswith("bias") else 0 < float(new.std()) < 0.4, name
    assert all(p.requires_grad for p in model.parameters())


@every_classifier
def test_it_loads_in_half_precision(case: Case, tmp_path: Path) -> None:
    model = case.build().eval()
    model.save_pretrained(tmp_path)
    half = case.family.auto[case.kind].from_pretrained(tmp_path, dtype=torch.bfloat16)
    logits = half(IDS, attention_mask=MASK).logits
    assert logits.dtype == torch.bfloat16
    exact = model(IDS, attention_mask=MASK).logits
    assert float((logits - exact).detach().abs().max()) < 0.1 * float(exact.detach().abs().max())


# ---------------------------------------------------------------- training


@every_class
def test_whatever_is_trained_gets_a_gradient(case: Case) -> None:
    model = case.build().train()
    loss_of(model).backward()
    unread = case.family.unread.get(case.kind, frozenset())
    parameters = dict(model.named_parameters())
    assert {name for name, p in parameters.items() if p.grad is None} == unread
    assert {name for name, p in parameters.items() if not p.requires_grad} == unread
    assert all(p.grad.isfinite().all() for p in parameters.values() if p.grad is not None)


def gradients_of(case: Case) -> tuple[Any, dict[str, Tensor]]:
    """A classifier in double precision, and its gradients, which it no longer has."""
    model = case.build().double().train()
    loss_of(model).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return model, found


@pytest.mark.parametrize("reentrant", [False, True])
@every_classifier
def test_gradient_checkpointing_changes_nothing(case: Case, reentrant: bool) -> None:
    model, expected = gradients_of(case)
    enable = "activation_checkpointing_enable"  # of an older transformers: gradient_…
    enable = enable if hasattr(model, enable) else "gradient_checkpointing_enable"
    getattr(model, enable)({"use_reentrant": reentrant})
    assert model.base_model.encoder.layers[0].gradient_checkpointing
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@each(Case(family, family.classifier, {}, name) for name, family in FAMILIES.items())
def test_it_compiles_without_graph_breaks(case: Case) -> None:
    model, expected = gradients_of(case)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(**batch_of(model)).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@every_family
def test_the_trainer_takes_it_as_its_own(family: Family, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = family.classifier(family.config())
    rows = [
        {"input_ids": IDS[i % 2], "attention_mask": MASK[i % 2], "labels": i % 2} for i in range(8)
    ]
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=30,
        learning_rate=0.01,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_steps=30,
        logging_strategy="no",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-30")
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
@every_family
def test_dropout_is_where_it_is_asked_for_and_in_training_alone(family: Family, name: str) -> None:
    quiet, noisy = (family.classifier(family.config(**{name: rate})) for rate in (0.0, 0.5))
    noisy.load_state_dict(quiet.state_dict())
    assert torch.equal(noisy.eval()(IDS).logits, quiet.eval()(IDS).logits)
    assert not torch.allclose(noisy.train()(IDS).logits, noisy(IDS).logits)


# ---------------------------------------------------------------- heads and inputs


@every_masked
def test_labelled_positions_alone_are_scored_in_training(case: Case) -> None:
    model = case.build().train()
    labels = torch.where(IDS % 3 == 0, IDS, -100)
    training, every = model(IDS, labels=labels), model(IDS).logits
    torch.testing.assert_close(training.logits, every[labels != -100])
    expected = F.cross_entropy(every.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(training.loss, expected)
    found = model.eval()(IDS, labels=labels)
    assert found.logits.shape == (2, 7, model.config.vocab_size)
    torch.testing.assert_close(found.loss, expected)


@every_family
def test_one_label_is_regression_and_several_may_hold_at_once(family: Family) -> None:
    one = family.classifier(family.config(num_labels=1))
    numbers = torch.tensor([0.5, -2.0])
    found = one(IDS, labels=numbers)
    torch.testing.assert_close(found.loss, F.mse_loss(found.logits[:, 0], numbers))
    several = family.config(num_labels=3, problem_type="multi_label_classification")
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = family.classifier(several)(IDS, labels=truth)
    torch.testing.assert_close(found.loss, F.binary_cross_entropy_with_logits(found.logits, truth))


@each(cases(lambda family: family.body, "sharebert", "elc_bert"))  # padding leaks in ConvBERT
def test_padding_changes_nothing(case: Case) -> None:
    model = case.build().eval()
    short = model(IDS[1:, :4]).last_hidden_state
    padded = model(IDS[1:], attention_mask=MASK[1:]).last_hidden_state[:, :4]
    torch.testing.assert_close(short, padded)
    boolean = model(IDS, attention_mask=MASK.bool()).last_hidden_state
    assert torch.equal(boolean, model(IDS, attention_mask=MASK).last_hidden_state)


@each(cases(lambda family: family.body, "sharebert", "convbert"))  # ELC-BERT has no segments
def test_segments_are_read_and_default_to_the_first(case: Case) -> None:
    model = case.build().eval()
    first, second = (model(IDS, token_type_ids=torch.full_like(IDS, n))[0] for n in (0, 1))
    assert torch.equal(model(IDS)[0], first)
    assert not torch.allclose(first, second)


@every_body
def test_embeddings_may_be_given_and_states_asked_for(case: Case) -> None:
    model = case.build().eval()
    embeddings = model.get_input_embeddings()(IDS)
    found, plain = model(inputs_embeds=embeddings, output_hidden_states=True), model(IDS)
    assert torch.equal(found.last_hidden_state, plain.last_hidden_state)
    mixed = case.settings.get("variant") == "weighted_output"
    states = [(2, 7, model.config.hidden_size)] * (model.config.num_hidden_layers + 1 + mixed)
    assert [tuple(state.shape) for state in found.hidden_states] == states
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
    assert plain.hidden_states is None
    assert isinstance(model(IDS, return_dict=False), tuple)
    headed = case.family.classifier(model.config).eval()
    found = headed(IDS, output_hidden_states=True)
    assert len(found.hidden_states) == len(states)


@every_body
def test_bad_input_is_refused_with_a_hint(case: Case) -> None:
    model = case.build()
    for given in ({}, {"input_ids": IDS, "inputs_embeds": model.get_input_embeddings()(IDS)}):
        with pytest.raises(InvalidValueError, match="either `input_ids` or `inputs_embeds`"):
            model(**given)
    if (longest := case.family.longest) is None:
        return
    with pytest.raises(InvalidValueError) as caught:
        model(torch.zeros(1, longest + 1, dtype=torch.long))
    assert str(caught.value) == (
        f"the input is not valid: it has {longest + 1} positions, and the model {longest}: cut "
        f"it, or build the model with max_position_embeddings={longest + 1}."
    )


@every_masked
def test_a_copy_reads_its_own_table(case: Case) -> None:
    model = case.build().eval()
    before = model(IDS).logits
    twin = copy.deepcopy(model)
    tied = model.config.tie_word_embeddings
    assert (twin.decoder.weight is twin.get_input_embeddings().weight) is tied
    with torch.no_grad():
        twin.get_input_embeddings().weight.normal_()
    assert torch.equal(model(IDS).logits, before)
    assert not torch.allclose(twin(IDS).logits, before)
