"""All sub-networks' losses as one: held to the official training loop, and its settings checked."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from embshare.errors import InvalidValueError
from embshare.models import distillation, dynabert
from embshare.models.dynabert import losses
from embshare.runtime.bank import require_bank
from embshare.tasks.elastic.objective import (
    DEPTH_STAGE,
    TUNING_STAGE,
    WIDTH_STAGE,
    ElasticObjective,
    Stage,
)
from tests.integration.models.dynabert.examples import SETTINGS, SHARING, batch, model
from tests.integration.models.dynabert.make_official import RATE, STEPS
from tests.integration.models.dynabert.official import batch as official_batch
from tests.integration.models.dynabert.official import bert, distance, official_importance, under

STAGES = {"width": WIDTH_STAGE, "depth": DEPTH_STAGE, "tuned": TUNING_STAGE}
TOLERANCE = 1e-6
every_stage = pytest.mark.parametrize("name", STAGES)


def objective(name: str, *, together: bool = False, **changed: Any) -> ElasticObjective:
    stage = Stage(**(STAGES[name].model_dump() | changed))
    student = dynabert.rewire(bert().train(), official_importance())
    teacher = bert() if stage.distil else None
    return ElasticObjective(student, stage, teacher, together=together)


def losses_apart(name: str) -> float:
    """Distance of all losses of a stage's first update."""
    made = objective(name)
    with torch.no_grad():
        made(**official_batch())
    return distance(made.last_losses, under(f"bert/{name}/")["losses"][0])


def gradients_apart(made: ElasticObjective, name: str) -> float:
    official = under(f"bert/{name}/grad/")
    made(**official_batch())["loss"].backward()
    return max(
        distance(parameter.grad, official[key])
        for key, parameter in made.model.named_parameters()
        if "key.bias" not in key  # zero but for rounding: it moves all scores of a row alike
    )


@every_stage
@pytest.mark.parametrize("together", [False, True])
def test_losses_and_summed_gradients(name: str, together: bool) -> None:
    made = objective(name, together=together)
    assert gradients_apart(made, name) < TOLERANCE
    official = under(f"bert/{name}/")["losses"][0]
    assert distance(made.last_losses, official) < TOLERANCE
    total = made(**official_batch())["loss"]
    assert distance(total, official.sum()) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("width", {"states_weight": 1.0}),
        ("width", {"logits_weight": 0.5}),
        ("width", {"depths": (1.0, 0.5)}),
        ("width", {"distil": False}),
        ("depth", {"states_weight": 0.1}),
        ("depth", {"widths": (1.0, 0.75, 0.5)}),
        ("depth", {"teacher": "same"}),
        ("tuned", {"depths": (1.0,)}),
    ],
)
def test_another_setting_has_other_gradients(name: str, changed: dict[str, Any]) -> None:
    assert gradients_apart(objective(name, **changed), name) > 1e-3


MISTAKES: dict[str, tuple[str, Any, str]] = {
    "the teacher's first states": (
        "matched_states",
        lambda count, depth: tuple(range(round(depth * count) + 1)),
        "depth",
    ),
    "states of outputs, not of inputs": (
        "matched_states",
        lambda count, depth: (0, *(i + 1 for i in dynabert.kept_layers(count, depth))),
        "depth",
    ),
    "mean over states": (
        "state_loss",
        lambda student, other: distillation.state_loss(student, other) / len(student),
        "width",
    ),
    "states without the last": (
        "state_loss",
        lambda student, other: distillation.state_loss(student[:-1], other[:-1]),
        "depth",
    ),
    "the teacher's best class alone": (
        "soft_cross_entropy",
        lambda student, other: torch.nn.functional.cross_entropy(student, other.argmax(-1)),
        "width",
    ),
    "student and teacher exchanged": (
        "soft_cross_entropy",
        lambda student, other: distillation.soft_cross_entropy(other, student),
        "width",
    ),
    "a temperature": (
        "soft_cross_entropy",
        lambda student, other: distillation.soft_cross_entropy(student, other, temperature=2.0),
        "width",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong, stage = MISTAKES[mistake]
    monkeypatch.setattr(losses, name, wrong)
    assert losses_apart(stage) > 1e-4


def test_one_clipped_update_for_all_sub_networks() -> None:
    """The official loop, its AdamW included: epsilon is added before the bias is corrected."""
    made = objective("width")
    named: dict[str, Any] = dict(made.model.named_parameters())
    first = {name: torch.zeros_like(p) for name, p in named.items()}
    second = {name: torch.zeros_like(p) for name, p in named.items()}
    seen = []
    for step in range(1, STEPS + 1):
        made.zero_grad()
        made(**official_batch())["loss"].backward()
        seen.append(made.last_losses)
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        rate = RATE * (STEPS + 1 - step) / STEPS
        for name, p in named.items():
            first[name].mul_(0.9).add_(p.grad, alpha=0.1)
            second[name].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            size = rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            p.data.addcdiv_(first[name], second[name].sqrt() + 1e-8, value=-size)
    assert distance(seen, under("bert/width/")["losses"]) < TOLERANCE
    after = under("bert/width/after/")
    assert max(distance(p, after[n]) for n, p in named.items() if "key.bias" not in n) < 1e-6


@every_stage
@pytest.mark.parametrize("sharing", [name for name in SHARING if name != "plain"])
def test_a_shared_model_learns_the_same_both_ways(name: str, sharing: str) -> None:
    stage, found = STAGES[name], []
    teacher = model() if stage.distil else None
    for together in (False, True):
        made = model(sharing=sharing).train()
        objective = ElasticObjective(made, stage, teacher, together=together)
        objective(**batch())["loss"].backward()
        found.append({n: p.grad for n, p in made.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][key], rtol=1e-4, atol=1e-5), key


def test_float16_keeps_the_graphs_until_the_backward() -> None:
    """Gradients are then those of the scaled loss; a second backward shows that they are kept."""
    made = ElasticObjective(model().train(), TUNING_STAGE)
    with torch.autocast("cpu", torch.float16):
        loss = made(**batch())["loss"]
    loss.backward(retain_graph=True)
    loss.backward()


def test_a_step_derives_a_shared_models_weights_once() -> None:
    made = model(sharing="tied").train()
    objective = ElasticObjective(made, TUNING_STAGE)
    bank = require_bank(made)
    before = bank.evaluations
    objective(**batch())["loss"].backward()
    assert bank.evaluations == before + 1


def test_the_teachers_width() -> None:
    """At the same width the teacher's states are those of its narrow sub-network."""
    teacher, inputs = model(), batch(labels=False)
    learner = copy.deepcopy(teacher)
    stage = Stage(name="same", depths=(1.0,), teacher="same")
    same = ElasticObjective(learner, stage, teacher)
    same(**inputs)
    full = ElasticObjective(learner, Stage(name="full", depths=(1.0,)), teacher)
    full(**inputs)
    # A copy of the teacher is what it learns from, so that no state differs at the same width.
    entropy = [float(loss) for loss in same.last_losses]
    with torch.no_grad():
        for width, found in zip(dynabert.WIDTHS, entropy, strict=True):
            with dynabert.sized(learner, width=width):
                logits = learner(**inputs).logits
            wanted = dynabert.soft_cross_entropy(logits, logits)
            assert found == pytest.approx(float(wanted), rel=1e-5)
    assert full.last_losses[0] == pytest.approx(same.last_losses[0])
    assert full.last_losses[-1] > same.last_losses[-1] + 1e-3


def test_the_teacher_stays_as_it_is() -> None:
    teacher, learner = model().train(), model().train()
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    made = ElasticObjective(learner, DEPTH_STAGE, teacher)
    assert len(list(made.parameters())) == len(list(learner.parameters()))
    assert not [name for name in made.state_dict() if not name.startswith("model.")]
    made(**batch())["loss"].backward()
    assert teacher.training and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())


def test_logits_of_a_regression_are_not_compared() -> None:
    settings: dict[str, Any] = SETTINGS | {"num_labels": 1}
    learner = BertForSequenceClassification(BertConfig(**settings))
    teacher = copy.deepcopy(learner)
    with torch.no_grad():
        teacher.classifier.weight += 1
    made = ElasticObjective(learner, Stage(name="one", widths=(1.0,), depths=(1.0,)), teacher)
    assert float(made(**batch(labels=False))["loss"].detach()) == pytest.approx(0, abs=1e-9)


def test_a_teacher_of_another_shape_may_give_its_logits() -> None:
    teacher = dynabert.extract(model(), depth=0.5)
    stage = Stage(name="logits", depths=(1.0, 0.5), states_weight=0)
    made = ElasticObjective(model(), stage, teacher)
    made(**batch(labels=False))["loss"].backward()
    assert made.model.get_submodule("classifier").weight.grad is not None


def test_both_logits_of_answers_are_compared() -> None:
    learner, teacher = model("BertForQuestionAnswering"), model("BertForQuestionAnswering")
    stage = Stage(name="one", widths=(1.0,), depths=(1.0,), states_weight=0)
    inputs = batch(labels=False)
    with torch.no_grad():
        teacher.qa_outputs.weight.mul_(2)
        ours, theirs = learner(**inputs), teacher(**inputs)
    found = ElasticObjective(learner, stage, teacher)(**inputs)["loss"]
    wanted = sum(
        dynabert.soft_cross_entropy(ours[name], theirs[name])
        for name in ("start_logits", "end_logits")
    )
    assert float(found.detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_without_gradients_it_is_evaluated() -> None:
    made = objective("tuned")
    with torch.no_grad():
        loss: Tensor = made(**official_batch())["loss"]
    assert not loss.requires_grad
    loss = made(**official_batch())["loss"]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can go backward once"):
        loss.backward()


def test_a_scaled_loss_has_a_scaled_gradient() -> None:
    found = []
    for scale in (1.0, 0.25):
        made = objective("width")
        (made(**official_batch())["loss"] * scale).backward()
        gradient = made.model.get_submodule("bert.pooler.dense").weight.grad
        assert isinstance(gradient, Tensor)
        found.append(gradient / scale)
    assert torch.allclose(found[0], found[1])


def refuse(**given: Any) -> str:
    with pytest.raises(InvalidValueError) as caught:
        ElasticObjective(**given)
    return str(caught.value)


def test_what_cannot_be_trained() -> None:
    learner = model()
    assert refuse(model=learner, stage=WIDTH_STAGE) == (
        "the teacher is not valid: the stage 'width' needs a teacher: give it one."
    )
    assert "takes none: leave it out" in refuse(model=learner, stage=TUNING_STAGE, teacher=model())
    assert "must be another model" in refuse(model=learner, stage=WIDTH_STAGE, teacher=learner)
    assert "the teacher's labels must be the student's" in refuse(
        model=learner, stage=WIDTH_STAGE, teacher=model("BertForQuestionAnswering")
    )
    narrower = dynabert.extract(model(), depth=0.5)
    assert "it must have 4 layers, as the student, but has 2" in refuse(
        model=learner, stage=WIDTH_STAGE, teacher=narrower
    )
    stage = Stage(name="thirds", widths=(0.3,))
    assert "whole number of the 4 heads" in refuse(model=learner, stage=stage, teacher=model())


def test_labels_are_needed_where_they_are_learned_from() -> None:
    with pytest.raises(InvalidValueError, match="it must have `labels`: this stage learns from"):
        ElasticObjective(model(), TUNING_STAGE)(**batch(labels=False))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"widths": ()}, "`widths`"),
        ({"widths": (0.5, 2.0)}, "`widths.1`"),
        ({"logits_weight": 0, "states_weight": 0}, "must be above 0 to distil"),
        ({"teacher": "half"}, "`teacher`"),
        ({"states_weight": -1}, "`states_weight`"),
    ],
)
def test_stages_are_checked(changed: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidValueError, match=fault):
        Stage(**({"name": "wrong"} | changed))


def test_stages_are_the_published_ones() -> None:
    assert [size.width for size in WIDTH_STAGE.sizes] == [1.0, 0.75, 0.5, 0.25]
    assert (WIDTH_STAGE.logits_weight, WIDTH_STAGE.states_weight) == (1.0, 0.1)
    assert (DEPTH_STAGE.logits_weight, DEPTH_STAGE.states_weight) == (1.0, 1.0)
    assert len(DEPTH_STAGE.sizes) == len(TUNING_STAGE.sizes) == 12 and not TUNING_STAGE.distil
    assert {WIDTH_STAGE.teacher, DEPTH_STAGE.teacher} == {"full"}
    assert Stage.from_json(DEPTH_STAGE.to_json()) == DEPTH_STAGE
