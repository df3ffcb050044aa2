"""From files to predictions: models of both kinds, shared and not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.changing import scored_with
from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.glue.task import Glue
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.settings import TrainSettings
from embshare.tasks.training import train

COLOURS = ("red", "blue", "green", "grey", "black", "white")
TINY: dict[str, Any] = {"vocabulary_size": 300, "width": 16, "heads": 2, "layers": 1, "dropout": 0}
TRAINING = TrainSettings(steps=60, batch_size=16, learning_rate=2e-2, hidden_lr=1.0)


def stsb(folder: Path) -> Path:
    """Scores of 5 where colours agree and 0 where they do not."""
    for split, count in (("train", 72), ("dev", 18), ("test", 6)):
        head = "index\tsentence1\tsentence2" + ("\tscore" if split != "test" else "")
        lines = [head]
        for index in range(count):
            one, other = COLOURS[index % 6], COLOURS[(index + index % 2) % 6]
            tail = f"\t{5.0 * (one == other)}" if split != "test" else ""
            lines.append(f"{index + 100}\t{one} dog {index}\t{other} cat{tail}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def cola(folder: Path) -> Path:
    """Bad where a sentence has a colour."""
    for split, count in (("train", 48), ("dev", 12)):
        rows = [f"x\t{i % 2}\t\tthe {('red', 'old')[i % 2]} dog {i}" for i in range(count)]
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    (folder / "test.tsv").write_text("index\tsentence\n7\tthe red dog\n3\tthe old dog\n")
    return folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_learns_and_writes_what_the_server_takes(
    tmp_path: Path, architecture: Architecture
) -> None:
    config = GlueConfig(name="cola", data=cola(tmp_path), training=TRAINING, **TINY)
    task = Glue(config).prepare()
    model = task.processor.build(architecture, seed=0)
    train(model, task.feed(), task.training, seed=0, folder=tmp_path, on_step=lambda: None)
    assert task.evaluate(model, folder=tmp_path) == {"mcc": pytest.approx(100)}
    assert (tmp_path / "CoLA.tsv").read_text() == "index\tprediction\n7\t0\n3\t1\n"
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples[0] == {"source": "the red dog 0", "reference": "0", "prediction": "0"}
    assert list(task.processor.predict(model, ["the old dog\n", "the red dog"])) == ["1", "0"]


def test_a_regression_learns_and_stays_in_its_range(tmp_path: Path) -> None:
    config = GlueConfig(name="stsb", data=stsb(tmp_path), training=TRAINING, **TINY)
    task = Glue(config).prepare()
    model = task.processor.build("conv", seed=0)
    train(model, task.feed(), task.training, seed=0, folder=tmp_path, on_step=lambda: None)
    found = task.evaluate(model, folder=tmp_path)
    assert set(found) == {"pearson", "spearman", "score"}
    assert found["score"] > 80
    lines = (tmp_path / "STS-B.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["index", *map(str, range(100, 106))]
    values = [float(line.split("\t")[1]) for line in lines[1:]]
    assert all(0 <= value <= 5 for value in values)
    assert min(values[::2]) > max(values[1::2])


def test_less_can_be_learned_from_and_predicted(tmp_path: Path) -> None:
    fields = {**TINY, "name": "cola", "data": cola(tmp_path)}
    whole = Glue(GlueConfig(**fields)).prepare()
    part = Glue(GlueConfig(**fields, most_rows=10, test_set=False)).prepare()
    assert part.data.train == whole.data.train[:10]
    model = part.processor.build("conv", seed=0)
    assert part.evaluate(model, folder=tmp_path) == part.scores(model)
    assert not (tmp_path / "CoLA.tsv").exists()


def test_scores_begin_with_the_one_to_compare_by(tmp_path: Path) -> None:
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), **TINY)).prepare()
    model = task.processor.build("lstm", seed=0)
    assert next(iter(task.scores(model))) == "score"
    assert task.scores(model) == task.evaluate(model, folder=tmp_path)


def test_a_model_without_kinds_of_sentences_is_refused_before_training(tmp_path: Path) -> None:
    fields = {**TINY, "name": "stsb", "data": stsb(tmp_path)}
    with pytest.raises(ModelNotForTaskError, match=r"two sentences .*--no-token-types"):
        Glue(GlueConfig(**fields)).prepare().processor.build("embshare:elc-bert-small", seed=0)
    task = Glue(GlueConfig(**fields, token_types=False)).prepare()
    assert task.processor.build("embshare:elc-bert-small", seed=0)


def test_a_model_that_knows_one_kind_of_sentence_alone_is_refused_before_training(
    tmp_path: Path,
) -> None:
    from transformers import RobertaConfig

    RobertaConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        type_vocab_size=1,
    ).save_pretrained(tmp_path / "roberta")
    fields = {**TINY, "name": "stsb", "data": stsb(tmp_path)}
    name = str(tmp_path / "roberta")
    with pytest.raises(ModelNotForTaskError, match=r"two sentences .*--no-token-types"):
        Glue(GlueConfig(**fields)).prepare().processor.build(name, seed=0)
    assert Glue(GlueConfig(**fields, token_types=False)).prepare().processor.build(name, seed=0)


def test_a_row_that_is_too_long_for_a_model_is_found_before_training(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    ).save_pretrained(tmp_path / "bert")
    fields = {**TINY, "name": "stsb", "data": stsb(tmp_path)}
    name = str(tmp_path / "bert")
    with pytest.raises(ModelNotForTaskError, match=r"a row of 128 tokens .*Lower `length`"):
        Glue(GlueConfig(**fields)).prepare().processor.build(name, seed=0)
    assert Glue(GlueConfig(**fields, length=32)).prepare().processor.build(name, seed=0)


def test_what_is_absent_is_recorded(tmp_path: Path) -> None:
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), **TINY)).prepare()
    assert "absent" not in task.describe()
    (tmp_path / "test.tsv").unlink()
    fields = {**TINY, "name": "stsb", "data": tmp_path}
    assert Glue(GlueConfig(**fields)).prepare().describe()["absent"] == ["test"]


def test_mnli_is_scored_on_both_sets(tmp_path: Path) -> None:
    head = "index\tsentence1\tsentence2\tgold_label\n"
    for stem in ("train", "dev_matched", "dev_mismatched"):
        (tmp_path / f"{stem}.tsv").write_text(head + "0\ta\tb\tneutral\n1\tc\td\tentailment\n")
    (tmp_path / "test_mismatched.tsv").write_text("index\tsentence1\tsentence2\n5\ta\tb\n")
    task = Glue(GlueConfig(name="mnli", data=tmp_path, **TINY)).prepare()
    model = task.processor.build("lstm", seed=0)
    found = task.evaluate(model, folder=tmp_path)
    assert set(found) == {"accuracy", "mismatched_accuracy"}
    assert task.scores(model) == found
    assert task.metric.name == "accuracy"
    assert (tmp_path / "MNLI-mm.tsv").read_text().splitlines()[1].split("\t")[1] in (
        "entailment",
        "neutral",
        "contradiction",
    )
    assert not (tmp_path / "MNLI-m.tsv").exists()


@pytest.mark.parametrize("name", ["embshare:convbert-small", "folder"])
def test_models_of_transformers_are_built_for_the_task(tmp_path: Path, name: str) -> None:
    from transformers import BertConfig

    if name == "folder":
        BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ).save_pretrained(tmp_path / "bert")
        name = str(tmp_path / "bert")
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), training=TRAINING, **TINY)).prepare()
    model: Any = task.processor.build(name, seed=0)
    assert model.config.num_labels == 1
    assert model.config.vocab_size == len(task.processor.start.tokenizer)
    feed = task.feed()
    assert feed.collate is not None
    model(**feed.collate([feed.rows[0], feed.rows[1]])).loss.backward()
    assert list(task.processor.predict(model, ["a\tb"]))


def test_a_tokenizer_of_ones_own_decides_about_kinds(tmp_path: Path) -> None:
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), **TINY)).prepare()
    fast = task.processor.start.tokenizer.fast
    fast.model_input_names = ["input_ids", "attention_mask"]
    fast.save_pretrained(tmp_path / "tokenizer")
    fields = {**TINY, "name": "stsb", "data": tmp_path, "tokenizer": str(tmp_path / "tokenizer")}
    assert "token_type_ids" not in Glue(GlueConfig(**fields)).prepare().rows[0]
    told = Glue(GlueConfig(**fields, token_types=True)).prepare()
    assert told.rows == task.rows


def test_all_files_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    stsb(tmp_path)
    with (tmp_path / "test.tsv").open("a") as file:
        file.write("7\tone sentence\n")
    with pytest.raises(DataError, match=r"test\.tsv`, line 8, must have 3 columns .* has 2"):
        Glue(GlueConfig(name="stsb", data=tmp_path)).prepare()


def test_a_trained_model_is_scored_without_the_training_set(tmp_path: Path) -> None:
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), **TINY))
    prepared = task.prepare()
    (tmp_path / "train.tsv").unlink()
    again = task.prepare(prepared.processor)
    assert (again.data.train, again.data.dev) == ((), prepared.data.dev)
    with pytest.raises(MissingDataError, match=r"with train\.tsv"):
        task.prepare(prepared.processor, train=True)


def test_what_metrics_need_is_looked_for_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embshare.tasks.packages.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"`sklearn` is not .*'embshare\[glue\]'"):
        Glue(GlueConfig()).prepare()


def test_what_is_predicted_for_must_have_the_tasks_sentences(tmp_path: Path) -> None:
    task = Glue(GlueConfig(name="stsb", data=stsb(tmp_path), **TINY)).prepare()
    model = task.processor.build("conv", seed=0)
    with pytest.raises(InvalidValueError, match="line 2 must hold two sentences with a tab"):
        list(task.processor.predict(model, ["a\tb", "a"]))


def test_a_config_that_was_saved_with_the_former_name_of_a_field_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("task: glue\nout: run\nsettings:\n  name: rte\n  test_side: false\n")
    found = RunConfig.from_yaml(path)
    assert found.settings == GlueConfig(name="rte", test_set=False)
    assert "test_set: false" in found.to_yaml() and "test_side" not in found.to_yaml()
    path.write_text(found.to_yaml())
    assert RunConfig.from_yaml(path) == found
    assert RunConfig.from_json(found.to_json().replace("test_set", "test_side")) == found
    former = GlueConfig(name="rte", data=None, hub="nyu-mll/glue")  # type: ignore[call-arg]
    assert former == GlueConfig(name="rte", data=Path("hub:nyu-mll/glue"))
    assert GlueConfig(name="rte", data=None, hub=None) == GlueConfig(name="rte")  # type: ignore[call-arg]
    assert GlueConfig(name="rte", data=Path("x"), hub=None).data == Path("x")  # type: ignore[call-arg]
    with pytest.raises(InvalidValueError, match="`test_side`"):
        scored_with(found.settings, {"test_side": True})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "qqp"}, "`name` must be one of cola, sst2, .* no `data` are named.* 'qqp'"),
        ({"data": "x", "hub": "y"}, "`hub`"),
        ({"name": "snli"}, "`name`"),
        ({"length": 4}, "`length`"),
    ],
)
def test_a_wrong_setting_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        GlueConfig(**fields)


def test_sizes_that_no_model_can_have_are_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`MatchedConfig\.width` must be a multiple"):
        Glue(GlueConfig(name="stsb", data=stsb(tmp_path), width=18)).prepare()
