"""Study files: each describes runs, and the models that they name are there."""

from pathlib import Path

import pytest
import torch

from embshare.tasks.building import ModelNotForTaskError, build_model
from embshare.tasks.runs.folder import differences
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.study_file import StudyFile

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
FILES = sorted((FOLDER / "studies").glob("*.yaml"))
RESULTS = sorted((FOLDER / "results" / "bench").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_file_describes_runs(file: Path, tmp_path: Path) -> None:
    study = StudyFile.load(file)
    assert study.name == file.stem
    trials = study.trials(tmp_path)
    assert len({trial.name for trial in trials}) == len(trials) > 1


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_committed_report_is_one(file: Path) -> None:
    report = StudyReport.from_json(file.read_text())
    for task in report.tasks:
        assert list(report.rows(task.name))


MADE_BY = {
    "multi30k-en-de-lstm": "multi30k-en-de-lstm",
    "multi30k-en-de-conv-attention": "multi30k-en-de-conv-attention",
    "multi30k-de-en-lstm": "multi30k-de-en-lstm",
    "multi30k-de-en-conv-attention": "multi30k-de-en-conv-attention",
    "multi30k-en-de-long": "multi30k-en-de-long",
    "multi30k-en-de-long-slow": "multi30k-en-de-long",
    "wikitext2": "wikitext2-subwords",
    "wikitext2-words": "wikitext2-words",
    "wikitext2-words-slow": "wikitext2-words",
    "flickr8k": "flickr8k",
}


@pytest.mark.parametrize(("result", "file"), MADE_BY.items())
def test_a_study_file_asks_for_the_runs_of_its_report(
    result: str, file: str, tmp_path: Path
) -> None:
    """But for the start of weights, whose default is called ``auto`` since."""
    report = StudyReport.from_json((FOLDER / "results" / "bench" / f"{result}.json").read_text())
    trials = StudyFile.load(FOLDER / "studies" / f"{file}.yaml").trials(tmp_path)
    for trial in report.trials:
        found = (differences(trial.result.config, other.config) for other in trials)
        assert min(found, key=len) in ([], ["share.init"]), trial.name


def tied(function: str) -> torch.nn.Module:
    def none(_: object) -> torch.nn.Module:
        raise AssertionError

    name = f"benchmarks.tied_models:{function}"
    return build_model(name, seed=0, matched=none, auto=None, vocab_size=50)


@pytest.mark.parametrize("function", ["conv_rank_8", "attention_rank_6"])
def test_tied_models_store_one_parameter_for_each_role(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER.parent)
    model = tied(function)
    stored = sum(p.numel() for p in model.parameters())
    read = sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))
    assert stored < 0.5 * read
    ids = torch.randint(50, (2, 8))
    model(input_ids=ids, labels=ids)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    again = tied(function)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("no.such.module:make", "No module named 'no'"),
        ("benchmarks.tied_models:gru", "has no attribute 'gru'"),
        ("os.path:basename", "its factory cannot be called"),
        ("builtins:bool", "its factory made a bool"),
    ],
)
def test_a_factory_that_makes_no_model_is_named(name: str, finding: str) -> None:
    def none(_: object) -> torch.nn.Module:
        raise AssertionError

    with pytest.raises(ModelNotForTaskError, match=finding) as caught:
        build_model(name, seed=0, matched=none, auto=None, vocab_size=50)
    assert caught.value.model == name
