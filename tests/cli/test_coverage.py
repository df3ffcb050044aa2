"""``embshare coverage`` on some architectures of every kind, held to the committed result."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embshare.adapters.specimen import Specimen
from embshare.cli import app
from embshare.cli.coverage import WALKS
from embshare.tasks.coverage import Report, Row, examine, regressions

ROOT = Path(__file__).resolve().parents[2]
SOME = {
    "transformers": (
        *("BertForMaskedLM", "GPT2LMHeadModel", "T5ForConditionalGeneration", "LlamaForCausalLM"),
        *("MixtralForCausalLM", "MambaForCausalLM", "DebertaV2ForTokenClassification"),
        *("WhisperForConditionalGeneration", "CLIPModel", "Qwen2VLForConditionalGeneration"),
        *("XLNetForSequenceClassification", "IBertForMaskedLM", "RwkvForCausalLM"),
        *("BertForMultipleChoice", "IdeficsModel", "DiaModel", "PI0Model", "LayoutLMv3Model"),
    ),
    "torchvision": ("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small"),
    "timm": ("test_vit", "test_convnext", "test_efficientnet"),
    "fairseq": ("lstm", "fconv", "lightconv", "transformer_iwslt_de_en", "transformer_lm"),
}
FROZEN = {"IdeficsModel"}
"""Which freeze most of their weights themselves: these stay dense."""
LEAST = {"transformers": 0.98, "torchvision": 1.0, "timm": 1.0, "fairseq": 0.95}
"""Of all that have a table, those that do not run dense included, what passes at least."""


def specimens(library: str) -> dict[str, Specimen]:
    import importlib

    walk = importlib.import_module(WALKS[library])
    return {s.name: s for s in walk.specimens() if s.library == library}


def report() -> Report:
    return Report.from_json((ROOT / "benchmarks" / "results" / "coverage.json").read_bytes())


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(library, marks=[pytest.mark.fairseq] if library == "fairseq" else [])
        for library in SOME
    ],
)
@pytest.mark.filterwarnings("ignore")  # of whatever the libraries have to say
def test_some_of_every_kind_pass_and_none_got_worse(library: str) -> None:
    pytest.importorskip(library)
    found = specimens(library)
    rows = [examine(found[name]) for name in SOME[library]]
    assert [(row.name, row.finding) for row in rows if row.outcome != "passes"] == []
    trained = [row for row in rows if row.name not in FROZEN]
    assert [(row.name, row.share) for row in trained if row.share < 0.95] == []
    assert regressions(report().rows(), rows) == []


def test_the_committed_result_meets_its_bounds() -> None:
    rows = [row for row in report().rows() if row.outcome != "no table"]
    assert [(row.library, row.name) for row in rows if row.outcome == "fails"] == []
    assert [row.name for row in rows if row.outcome == "not run" and not row.finding] == []
    passed = [row for row in rows if row.outcome == "passes"]
    assert [row.name for row in passed if row.share < 0.95 and not row.dense] == []
    assert {row.library for row in rows} == WALKS.keys()
    for library in WALKS:
        reading = [row for row in rows if row.library == library]
        assert sum(row.outcome == "passes" for row in reading) >= LEAST[library] * len(reading)


@pytest.mark.parametrize("library", ["transformers", "torchvision", "timm"])
def test_the_committed_result_is_of_everything(library: str) -> None:
    pytest.importorskip(library)
    walks = [walk for walk in report().walks if any(row.library == library for row in walk.rows)]
    if walks[-1].provenance.packages[library] != version(library):
        pytest.skip(f"the result is of another {library}")
    found = {row.name for row in report().rows() if row.library == library}
    assert specimens(library).keys() == found


def run(*arguments: object) -> tuple[int, str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(app, ["coverage", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_writes_compares_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "coverage.json"
    chosen = ("--library", "transformers", "--out", out)
    code, told, err = run(*chosen, "--only", "BertModel")
    assert code == 0, err
    (row,) = Report.from_json(out.read_bytes()).rows()
    assert (row.name, row.outcome) == ("BertModel", "passes")
    assert "transformers" in told

    better = json.loads(out.read_text())
    better["walks"][0]["rows"][0] |= {"hidden": 10, "derived": 10, "name": "ViltModel"}
    before = tmp_path / "before.json"
    before.write_text(json.dumps(better))
    code, told, _ = run(*chosen, "--only", "BertModel", "--against", before)
    assert (code, "Nothing got worse." in told) == (0, True)
    code, told, _ = run(*chosen, "--only", "BertModel", "--resume")
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--library", "keras"), "`keras`: must be one of transformers"),
        (("--library", "transformers", "--only", "Bret*"), "no architecture is called 'Bret*'"),
        (("--jobs", "0"), "jobs and limit must be above zero"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(arguments: tuple[str, ...], fault: str) -> None:
    code, told, err = run(*arguments)
    assert (code, told) == (2, "")
    assert fault in err


def test_an_earlier_result_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}x")
    code, _, err = run("--against", tmp_path / "old.json")
    assert code == 1
    assert "no result of a walk" in err


def test_rows_are_data() -> None:
    row = Row(library="a", name="b", outcome="passes")
    assert Row.from_json(row.to_json()) == row
