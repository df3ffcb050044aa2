"""Some architectures of every kind are checked, and held to the committed result."""

import importlib
import json
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.architectures.__main__ import LIBRARIES, main, read
from tests.architectures.architecture import Architecture
from tests.architectures.check import check
from tests.architectures.results import Report, Row, regressions

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


def architectures(library: str) -> dict[str, Architecture]:
    place = importlib.import_module(LIBRARIES[library])
    return {a.name: a for a in place.architectures() if a.library == library}


def report() -> Report:
    return read(ROOT / "benchmarks" / "results" / "coverage.json")


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
    found = architectures(library)
    rows = [check(found[name]) for name in SOME[library]]
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
    assert {row.library for row in rows} == LIBRARIES.keys()
    for library in LIBRARIES:
        reading = [row for row in rows if row.library == library]
        assert sum(row.outcome == "passes" for row in reading) >= LEAST[library] * len(reading)


@pytest.mark.parametrize("library", ["transformers", "torchvision", "timm"])
def test_the_committed_result_is_of_everything(library: str) -> None:
    pytest.importorskip(library)
    runs = [run for run in report().runs if any(row.library == library for row in run.rows)]
    if runs[-1].provenance.packages[library] != version(library):
        pytest.skip(f"the result is of another {library}")
    found = {row.name for row in report().rows() if row.library == library}
    assert architectures(library).keys() == found


def test_the_command_writes_compares_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "coverage.json"
    chosen = ["--library", "transformers", "--out", str(out), "--only", "BertModel"]
    assert main(chosen) == 0
    (row,) = read(out).rows()
    assert (row.name, row.outcome) == ("BertModel", "passes")
    assert "1/1 transformers BertModel: passes" in capsys.readouterr().out

    better = json.loads(out.read_text())
    better["runs"][0]["rows"][0]["hidden"] //= 2
    before = tmp_path / "before.json"
    before.write_text(json.dumps(better))
    assert main([*chosen, "--against", str(before)]) == 1
    assert "worse: transformers BertModel: derives 100.0%, before 200.0%" in capsys.readouterr().out
    assert main([*chosen, "--resume"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--library", "keras"), "invalid choice: 'keras'"),
        (("--library", "torchvision", "--only", "resent*"), "no architecture is called 'resent*'"),
        (("--jobs", "0"), "--jobs and --limit must be above zero"),
        (("--out", "absent/file.json"), "there is no folder `absent`"),
        (("--against", "absent.json"), "no result of an earlier run"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    arguments: tuple[str, ...], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err


def test_rows_are_data() -> None:
    row = Row(library="a", name="b", outcome="passes")
    assert Row.from_json(row.to_json()) == row
