"""The one reader: published layouts, JSON lines, sets of the hub, and every kind of fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.glue.data import TASKS, Data, GlueTask, read_folder, read_hub

RTE = TASKS["rte"]
HEADER = "index\tsentence1\tsentence2\tlabel"
ROW = "0\tIt rains .\tIt is wet .\tentailment"


def write(folder: Path, **files: str | bytes) -> Path:
    """Files of RTE; those that are not given are sound."""
    sound = {"train": f"{HEADER}\n{ROW}\n", "dev": f"{HEADER}\n{ROW}\n"}
    for stem, content in (sound | files).items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / f"{stem}.tsv").write_bytes(raw)
    return folder


def sizes(data: Data) -> list[int]:
    return [len(data.train), *map(len, data.dev.values()), *map(len, data.test.values())]


PUBLISHED = {
    "cola": [8551, 1043, 1063],
    "sst2": [67349, 872, 1821],
    "mrpc": [3668, 408, 1725],
    "stsb": [5749, 1500, 1379],
    "rte": [2490, 277, 3000],
    "wnli": [635, 71, 146],
}


@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_have_their_published_sizes(data: Path, name: Any) -> None:
    found = read_folder(TASKS[name], data / "glue")
    assert sizes(found) == PUBLISHED[name]
    assert found.skipped == 0
    assert all(len(row.texts) == len(TASKS[name].fields) for row in found.train)
    if name == "mrpc":
        assert sum(row.label == 1 for row in found.train) == 2474
        assert found.train[0].texts[0].startswith("Amrozi accused his brother")


@pytest.mark.data
def test_json_lines_are_read(data: Path) -> None:
    found = read_folder(TASKS["mnli"], data / "glue" / "MNLI_subset")
    assert sizes(found) == [7107, 1777]
    assert found.train[0].index == "2288"
    assert {row.label for row in found.train} == {0, 1, 2}


def test_all_nine_are_in_the_table() -> None:
    assert len(TASKS) == 9
    parts = [(task, part) for task in TASKS.values() for part in task.test]
    assert sorted(part.submission or f"{task.folder}.tsv" for task, part in parts) == sorted(
        f"{name}.tsv"
        for name in ("CoLA SST-2 MRPC STS-B QQP MNLI-m MNLI-mm AX QNLI RTE WNLI").split()
    )


def test_mnli_has_two_development_sets_and_a_diagnostic_one(tmp_path: Path) -> None:
    folder, labels = tmp_path / "MNLI", "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label"
    folder.mkdir()
    row = "7\tnews\tIt rains .\tIt snows .\tneutral\tcontradiction"
    for stem in ("train", "dev_matched", "dev_mismatched"):
        (folder / f"{stem}.tsv").write_text(f"{labels}\n{row}\n")
    for stem in ("test_matched", "test_mismatched"):
        (folder / f"{stem}.tsv").write_text("index\tsentence1\tsentence2\n9\tA .\tB .\n")
    (tmp_path / "diagnostic").mkdir()
    (tmp_path / "diagnostic/diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tA\tB\n")
    found = read_folder(TASKS["mnli"], tmp_path)
    assert sizes(found) == [1, 1, 1, 1, 1, 1]
    assert [part.prefix for part in found.dev] == ["", "mismatched_"]
    assert found.train[0].label == 2
    assert [row.index for rows in found.test.values() for row in rows] == ["9", "9", "0"]


def test_quotes_marks_and_odd_line_ends_are_text(tmp_path: Path) -> None:
    odd = '0\t" He said\u2028so .\tIt is " wet\x85\tentailment'
    write(tmp_path, train=f"\ufeff{HEADER}\r\n{odd}\r\n")
    assert read_folder(RTE, tmp_path).train[0].texts == ('" He said\u2028so .', 'It is " wet\x85')


def test_the_folder_of_all_tasks_or_of_one(tmp_path: Path) -> None:
    (tmp_path / "RTE").mkdir()
    write(tmp_path / "RTE")
    assert sizes(read_folder(RTE, tmp_path)) == sizes(read_folder(RTE, tmp_path / "RTE")) == [1, 1]


FAULTS: dict[str, tuple[Any, int, str]] = {
    "columns": (f"{HEADER}\n{ROW}\n1\tIt rains .\tentailment\n", 3, "have 4 columns .* has 3"),
    "label": (
        f"{HEADER}\n{ROW.replace('entail', 'detail')}",
        2,
        "have ent.* as its label, but has 'detailment'",
    ),
    "header": ("index\tsentence1\tlabel\n", 1, "name the column `sentence2`, but has `index`, "),
    "encoding": (f"{HEADER}\n{ROW}\n1\tcaf\xe9".encode("latin1"), 3, "be UTF-8, .*0xe9"),
}


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_and_line(tmp_path: Path, split: str, fault: str) -> None:
    content, line, message = FAULTS[fault]
    write(tmp_path, **{split: content})
    with pytest.raises(DataError, match=rf"{split}\.tsv`, line {line}, must {message}"):
        read_folder(RTE, tmp_path)


def test_bad_lines_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    write(tmp_path, train=f"{HEADER}\n{ROW}\n1\tx\n2\ta\tb\tperhaps\n{ROW}\n")
    found = read_folder(RTE, tmp_path, skip_bad_rows=True)
    assert (len(found.train), found.skipped) == (2, 2)


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_lines_of_the_test_set_are_never_left_out(tmp_path: Path, ending: str) -> None:
    write(tmp_path)
    rows = {
        "tsv": "index\tsentence1\tsentence2\n0\ta\tb\n1\ta\tb\tc\n",
        "jsonl": '{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a"}\n',
    }
    (tmp_path / f"test.{ending}").write_text(rows[ending])
    message = rf"test\.{ending}`, line \d, must .*leave the test set out \(`test_set`\)"
    with pytest.raises(DataError, match=message):
        read_folder(RTE, tmp_path, skip_bad_rows=True)
    without = read_folder(RTE, tmp_path, skip_bad_rows=True, test_set=False)
    assert (without.test, without.skipped, without.absent) == ({}, 0, ())


def test_what_is_absent_is_told(tmp_path: Path) -> None:
    assert read_folder(RTE, write(tmp_path)).absent == ("test",)


@pytest.mark.parametrize("content", ["", f"{HEADER}\n"])
def test_an_empty_split_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"train\.tsv`.* must (hold rows|name the column)"):
        read_folder(RTE, write(tmp_path, train=content))


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(MissingDataError, match=r"with dev\.tsv .* of RTE, but holds train\.tsv\."):
        read_folder(RTE, tmp_path)
    with pytest.raises(MissingDataError, match="but is not there"):
        read_folder(RTE, tmp_path / "nowhere")


@pytest.mark.parametrize("score", ["5.2", "-0.1", "nan", "high"])
def test_a_score_is_from_0_to_5(tmp_path: Path, score: str) -> None:
    (tmp_path / "train.tsv").write_text(f"sentence1\tsentence2\tscore\na\tb\t{score}\n")
    (tmp_path / "dev.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t5\n")
    with pytest.raises(DataError, match=rf"line 2, .* from 0 to 5 as its label, .*'{score}'"):
        read_folder(TASKS["stsb"], tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "must be a JSON object, but is none"),
        (
            '{"premise": "a", "label": 1}',
            "`premise` and `hypothesis` and `label`, but lacks `hypothesis`",
        ),
        (
            '{"premise": "a", "hypothesis": 3, "label": 1}',
            "must have sentences, but has 3, which is no string",
        ),
        ('{"premise": "a", "hypothesis": "b", "label": 3}', "as its label, but has 3"),
        ('{"premise": "a", "hypothesis": "b", "label": true}', "as its label, but has True"),
    ],
)
def test_a_fault_in_json_lines_is_named(tmp_path: Path, line: str, message: str) -> None:
    good = '{"premise": "a", "hypothesis": "b", "label": "neutral"}'
    (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n")
    (tmp_path / "valid.jsonl").write_text(f"{good}\n")
    with pytest.raises(DataError, match=rf"train\.jsonl`, line 2, .*{message}"):
        read_folder(TASKS["mnli"], tmp_path)


def hub(folder: Path, task: GlueTask, **row: Any) -> Path:
    """A set in the hub's form, as a folder with a card."""
    fields = dict.fromkeys(task.fields, "It rains .")
    for split, label in (("train", 0), ("validation", 1), ("test", -1)):
        line = json.dumps({**fields, "label": label, "idx": 4, **row})
        (folder / f"{split}.jsonl").write_text(line + "\n")
    files = "\n".join(
        f"  - split: {split}\n    path: {split}.jsonl" for split in ("train", "validation", "test")
    )
    card = f"---\nconfigs:\n- config_name: {task.name}\n  data_files:\n{files}\n---\n"
    (folder / "README.md").write_text(card)
    return folder


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # type: ignore[import-untyped]

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.mark.usefixtures("no_cache")
def test_a_set_of_the_hub_is_read(tmp_path: Path) -> None:
    found = read_hub(RTE, str(hub(tmp_path, RTE)))
    assert sizes(found) == [1, 1, 1]
    assert (found.train[0].label, found.train[0].index) == (0, "4")
    assert next(iter(found.test.values()))[0].label is None


@pytest.mark.usefixtures("no_cache")
def test_a_set_that_is_not_what_it_has_to_be_is_refused(tmp_path: Path) -> None:
    folder = hub(tmp_path, RTE, label=7)
    with pytest.raises(DataError, match=r"`train\[0\]`, must have ent.* as its label, but has 7"):
        read_hub(RTE, str(folder))
    with pytest.raises(
        MissingDataError, match="`cola/train`, must hold rows, but has no such split"
    ):
        read_hub(TASKS["cola"], str(folder))
    with pytest.raises(MissingDataError, match=r"nowhere`, `rte`, .* cannot be loaded"):
        read_hub(RTE, str(tmp_path / "nowhere"))


Splits = dict[str, list[dict[str, object]]]


@pytest.fixture
def mnli(monkeypatch: pytest.MonkeyPatch) -> tuple[Splits, list[Exception]]:
    """Splits of MNLI as `datasets` would fetch them, and what it raises for the diagnostic set."""
    import datasets

    row: dict[str, object] = {"premise": "a", "hypothesis": "b", "label": 0, "idx": 4}
    splits: Splits = {split: [row] for split in ("train", "validation_matched", "test_matched")}
    raised: list[Exception] = [ValueError("BuilderConfig 'ax' not found. Available: ['mnli']")]

    def load(name: str, config: str) -> dict[str, datasets.Dataset]:
        if config == "ax":
            raise raised[-1]
        made = datasets.Dataset.from_list
        return {s: made(rows) if rows else made([row]).select([]) for s, rows in splits.items()}

    monkeypatch.setattr(datasets, "load_dataset", load)
    return splits, raised


def test_what_the_hub_has_not_is_told_and_nothing_else_is_left_out(
    mnli: tuple[Splits, list[Exception]],
) -> None:
    _, raised = mnli
    found = read_hub(TASKS["mnli"], "x")
    assert sizes(found) == [1, 1, 1]
    assert found.absent == ("dev_mismatched", "test_mismatched", "diagnostic")
    raised.append(ConnectionError("no network"))
    with pytest.raises(MissingDataError, match=r"`x`, `ax`, .* cannot be loaded \(no network\)"):
        read_hub(TASKS["mnli"], "x")
    assert read_hub(TASKS["mnli"], "x", test_set=False).absent == ("dev_mismatched",)


@pytest.mark.parametrize("split", ["train", "validation_matched", "validation_mismatched"])
def test_a_split_of_the_hub_without_rows_is_refused(
    mnli: tuple[Splits, list[Exception]], split: str
) -> None:
    splits, _ = mnli
    splits[split] = []
    with pytest.raises(MissingDataError, match=f"`mnli/{split}`, must hold rows, but it has none"):
        read_hub(TASKS["mnli"], "x")
