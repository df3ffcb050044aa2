"""From files to answers, and every fault of a file before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.inputs import HubName
from embshare.tasks.settings import TrainSettings
from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.data import built_in, read_folder, read_hub
from embshare.tasks.squad.task import Squad
from embshare.tasks.training import train
from tests._support.task_examples import EXAMPLES

TRAINING = TrainSettings(
    steps=80, batch_size=8, learning_rate=2e-2, hidden_lr=1.0, eval_batch_size=8
)
TINY: dict[str, Any] = {
    "vocabulary_size": 300, "width": 16, "heads": 2, "layers": 2, "dropout": 0,
    "training": TRAINING,
}  # fmt: skip


def colours(folder: Path) -> dict[str, Any]:
    return {**EXAMPLES["squad"].settings(folder), **TINY}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_learns_to_answer_and_when_not_to(
    tmp_path: Path, architecture: Architecture
) -> None:
    task = Squad(SquadConfig(**colours(tmp_path))).prepare()
    model = task.processor.build(architecture, seed=0)
    train(model, task.feed(), task.training, seed=0, folder=tmp_path, on_step=lambda: None)
    found = task.evaluate(model, folder=tmp_path)
    assert found["unanswerable_f1"] == 100
    assert found["f1"] > 90
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert predictions["0b"] == ""
    assert predictions["0a"] == "blue"
    best = json.loads((tmp_path / "nbest_predictions.json").read_text())
    assert best["0a"][0]["text"] == "blue"
    assert set(json.loads((tmp_path / "null_odds.json").read_text())) == set(predictions)
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples[0]["reference"] == samples[0]["prediction"] == "blue"
    lines = ["What is Tom ?\tAnna is red . Tom is blue .", "What is Eve ?\tTom is blue ."]
    assert list(task.processor.predict(model, lines)) == ["blue", ""]


@pytest.mark.parametrize("name", ["embshare:convbert-small", "folder"])
def test_models_of_transformers_answer(tmp_path: Path, name: str) -> None:
    from transformers import BertConfig

    if name == "folder":
        BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ).save_pretrained(tmp_path / "bert")
        name = str(tmp_path / "bert")
    task = Squad(SquadConfig(**colours(tmp_path))).prepare()
    model: Any = task.processor.build(name, seed=0)
    feed = task.feed()
    assert feed.collate is not None
    model(**feed.collate([feed.rows[0], feed.rows[1]])).loss.backward()
    assert set(task.evaluate(model, folder=tmp_path)) > {"f1", "exact_match", "best_f1"}


def test_a_window_that_is_too_long_for_a_model_is_found_before_training(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    ).save_pretrained(tmp_path / "bert")
    fields = colours(tmp_path) | {"question_length": 32}
    name = str(tmp_path / "bert")
    with pytest.raises(ModelNotForTaskError, match=r"a row of 384 tokens .*Lower `length`"):
        Squad(SquadConfig(**fields)).prepare().processor.build(name, seed=0)
    assert Squad(SquadConfig(**fields, length=128)).prepare().processor.build(name, seed=0)


def test_a_threshold_empties_answers_but_not_what_the_best_one_could_give(tmp_path: Path) -> None:
    fields = colours(tmp_path)
    found = {}
    for threshold in (-1e6, 1e6):
        task = Squad(SquadConfig(**fields, null_threshold=threshold)).prepare()
        model = task.processor.build("conv", seed=0)
        found[threshold] = task.evaluate(model, folder=tmp_path)
    assert found[-1e6]["answerable_f1"] == 0
    assert found[-1e6]["best_f1"] > 50  # some of an answer is right, half have none
    for name in ("best_f1", "best_f1_threshold", "best_exact_match"):
        assert found[-1e6][name] == found[1e6][name]


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_the_built_in_passages_hold_their_answers(version: Any) -> None:
    data = built_in(version)
    assert (len(data.train), len(data.dev)) == (3_000, 600)
    assert built_in(version) == data
    impossible = [question for question in data.train if question.start is None]
    assert bool(impossible) == (version == "2.0")
    for question in data.train:
        if question.start is not None:
            (answer,) = question.answers
            assert question.passage[question.start :].startswith(answer)
            assert answer not in question.question
    for question in impossible:
        assert question.answers == ()
    described: Any = Squad(SquadConfig(version=version)).prepare().describe()
    assert described["vocabulary"] > 1_250  # enough for EPS at the default width


def tree(times: int = 1, **changes: Any) -> dict[str, Any]:
    question = {
        "id": "7",
        "question": "Where ?",
        "answers": [{"text": "Rome", "answer_start": 3}],
        **changes,
    }
    paragraph = {"context": "In Rome .", "qas": [question] * times}
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}


def write(folder: Path, train: Any, dev: Any = None) -> Path:
    for split, content in (("train", train), ("dev", tree() if dev is None else dev)):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{split}-v1.1.json").write_text(text)
    return folder


def test_published_files_are_read(tmp_path: Path) -> None:
    data = read_folder(write(tmp_path, tree()), "1.1")
    (question,) = data.train
    assert (question.id, question.answers, question.start) == ("7", ("Rome",), 3)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ('{"data":\n [}', r"line 2, must be JSON, but is not \(Expecting value at column 3\)"),
        ("[]", r"must be an object with names, but is \[\]"),
        ({}, "`data`, must be there, but is missing"),
        ({"data": []}, "`data`, must hold questions, but has none"),
        (
            tree(question=3),
            r"`data\[0\].paragraphs\[0\].qas\[0\].question`, must be a valid string, but is 3",
        ),
        (tree(answers=[]), r"`.*qas\[0\].answers`, must hold an answer.* be of version 2\.0"),
        (tree(answers=[{"text": "Rome"}]), "answer_start`, must be there, but is missing"),
        (
            tree(answers=[{"text": "Rome", "answer_start": 4}]),
            "must be in the passage at 4, but is 'Rome', and 'ome ' is there",
        ),
        (
            tree(times=2),
            r"qas\[1\].id`, must be of one question alone, but is '7', as that of `.*qas\[0\]`",
        ),
    ],
)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_fault_is_named_with_its_place(
    tmp_path: Path, split: str, train: Any, message: str
) -> None:
    write(tmp_path, *((train,) if split == "train" else (tree(), train)))
    with pytest.raises(DataError, match=rf"{split}-v1\.1\.json`.*{message}"):
        Squad(SquadConfig(data=tmp_path)).prepare()


def test_a_question_of_version_2_without_a_list_of_answers_is_named(tmp_path: Path) -> None:
    lacking = tree()
    del lacking["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    for split in ("train", "dev"):
        (tmp_path / f"{split}-v2.0.json").write_text(json.dumps(lacking))
    with pytest.raises(DataError, match=r"qas\[0\].answers`, must be a list, but is missing"):
        Squad(SquadConfig(data=tmp_path, version="2.0")).prepare()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, tree())
    with pytest.raises(
        MissingDataError, match=r"with train-v2\.0\.json or train\.json, but holds dev"
    ):
        Squad(SquadConfig(data=tmp_path, version="2.0")).prepare()


def test_a_trained_model_is_scored_without_the_training_set(tmp_path: Path) -> None:
    task = Squad(SquadConfig(data=write(tmp_path, tree()), **TINY))
    prepared = task.prepare()
    next(tmp_path.glob("train*")).unlink()
    again = task.prepare(prepared.processor)
    assert (again.data.train, again.data.dev) == ((), prepared.data.dev)
    with pytest.raises(MissingDataError, match=r"with train-v1\.1\.json"):
        task.prepare(prepared.processor, train=True)


HUB: dict[str, Any] = {
    "id": "7",
    "question": "Where ?",
    "context": "In Rome .",
    "answers": {"text": ["Rome"], "answer_start": [3]},
}
UNANSWERED = HUB | {"id": "8", "answers": {"text": [], "answer_start": []}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Rows in place of those that `datasets` would fetch."""
    import datasets  # type: ignore[import-untyped]

    def put(*validation: dict[str, Any]) -> None:
        splits = {
            "train": [HUB, UNANSWERED | {"answers": HUB["answers"]}],
            "validation": validation,
        }
        columns = {
            split: {name: [row[name] for row in rows] for name in HUB}
            for split, rows in splits.items()
        }
        made = {split: datasets.Dataset.from_dict(found) for split, found in columns.items()}
        monkeypatch.setattr(datasets, "load_dataset", lambda name, config: made)

    return put


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HUB, UNANSWERED], r"`x`, `validation\[1\].answers`, must hold an answer"),
        (
            [HUB | {"answers": {"text": ["Rome"], "answer_start": [999]}}],
            r"`validation\[0\].answers\[0\].text`, must be in the passage at 999, but is 'Rome'",
        ),
        (
            [HUB | {"answers": {"text": ["Rome"], "answer_start": []}}],
            r"answers\[0\].answer_start`, must be a valid integer, but is None",
        ),
        ([HUB, HUB], r"`validation\[1\].id`, must be of one .* as that of `validation\[0\]`"),
        ([], "`validation`, must hold questions, but has none"),
    ],
)
def test_rows_of_the_hub_are_checked_as_those_of_files_are(
    hub: Callable[..., None], rows: list[dict[str, Any]], message: str
) -> None:
    hub(*rows)
    with pytest.raises(DataError, match=message):
        Squad(SquadConfig(data=Path("hub:x"))).prepare()


def test_questions_of_the_hub_may_have_no_answer_in_version_2(hub: Callable[..., None]) -> None:
    hub(HUB, UNANSWERED)
    assert [question.start for question in read_hub(HubName("x", None), "2.0").dev] == [3, None]


def test_a_set_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(HUB) + "\n")
    files = "".join(f"  - split: {s}\n    path: {s}.jsonl\n" for s in ("train", "validation"))
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
    (tmp_path / "README.md").write_text(card)
    data = read_hub(HubName(str(tmp_path), None), "1.1")
    assert data.train == data.dev == read_folder(write(tmp_path, tree()), "1.1").train
    with pytest.raises(MissingDataError, match=r"must be a data set .* cannot be loaded"):
        read_hub(HubName(str(tmp_path / "none"), None), "1.1")


def test_what_is_asked_must_have_a_passage(tmp_path: Path) -> None:
    task = Squad(SquadConfig(**colours(tmp_path))).prepare()
    with pytest.raises(InvalidValueError, match="line 1 must hold a question and its passage"):
        list(task.processor.predict(task.processor.build("conv", seed=0), ["What ?"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "x", "hub": "y"}, "`hub`"),
        ({"version": "3"}, "`version`"),
        ({"length": 64, "question_length": 40}, r"at most half of `length` \(64\), but is 40"),
    ],
)
def test_a_wrong_setting_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        SquadConfig(**fields)
