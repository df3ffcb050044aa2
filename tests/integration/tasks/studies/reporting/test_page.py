"""The page: whole, self-contained, and safe with whatever a sample says."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting import output
from embshare.tasks.studies.reporting.analysis import analyse
from embshare.tasks.studies.reporting.page import SHOWN_ROWS, samples_of
from embshare.tasks.studies.study_file import TRIALS, StudyFile
from tests.integration.tasks.studies.conftest import LM, with_first_metric


class Reader(HTMLParser):
    """Counts tags and collects addresses; raises where tags do not close."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.rows = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += tag == "tr"
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def make_page(report: StudyReport, out: Path) -> str:
    out.mkdir(exist_ok=True)
    output.write_files(report, out, folders_of(report, out))
    return (out / "report.html").read_text()


def folders_of(report: StudyReport, out: Path) -> dict[str, Path]:
    return {trial.name: out / TRIALS / trial.name for trial in report.trials}


def test_the_page_needs_nothing_from_elsewhere(report: StudyReport, out: Path) -> None:
    reader = read(make_page(report, out))
    effects, pairs = 3 + 3 + 2, 1
    assert reader.rows == 1 + 9 + 1 + effects + 1 + pairs
    assert all(address.startswith(("data:image/", "#")) for address in reader.addresses)


@pytest.mark.usefixtures("undrawn")
def test_numbers_are_shown_for_people_and_kept_for_sorting(report: StudyReport, out: Path) -> None:
    page = make_page(report, out)
    assert '<td data-value="200000">200,000</td>' in page
    assert re.search(r'data-value="131.0" class="metric">131.0 ± 12.7<', page)


@pytest.mark.usefixtures("undrawn")
def test_samples_of_all_models_stand_side_by_side(report: StudyReport, out: Path) -> None:
    for trial in (trial for trial in report.trials if trial.labels["seed"] == "0"):
        folder = out / TRIALS / trial.name / "samples"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4), "red").save(folder / "0.png")
        entry = {
            "source": "<script>alert(1)</script>",
            "references": ["a", "b", "c"],
            "image": "0.png",
            "prediction": "{model} says & {method}".format(**trial.labels),
        }
        (folder / "samples.json").write_text(json.dumps([entry] * 20))
    samples = list(samples_of(analyse(report, LM), folders_of(report, out)))
    assert len(samples) == 8
    assert samples[0].given == {"source": "<script>alert(1)</script>", "references": "a | b"}
    assert len(samples[0].predictions) == 9
    assert samples[0].predictions[0] == ("LSTM, dense", "lstm says & dense")
    page = make_page(report, out)
    assert "<script>alert" not in page
    assert "lstm says &amp; dense" in page
    assert len([a for a in read(page).addresses if a.startswith("data:image/png")]) == 8


@pytest.mark.usefixtures("undrawn")
def test_a_model_without_samples_leaves_none_out_of_step(report: StudyReport, out: Path) -> None:
    assert list(samples_of(analyse(report, LM), folders_of(report, out))) == []


# As much of a browser as the page's script asks for: it clicks on the column of the metric twice.
BROWSER = """
let click, more;
const row = () => {
  const cells = [];
  return {
    cells,
    style: {setProperty: () => {}},
    insertCell: () => (cells.push({dataset: {}, className: ""}), cells.at(-1)),
  };
};
const rows = VALUES.map(value => ({cells: [{dataset: {value}, className: ""}]}));
const head = {
  sorted: null,
  firstElementChild: {addEventListener: (_, then) => { click = then; }},
  getAttribute: () => head.sorted,
  setAttribute: (_, value) => { head.sorted = value; },
  removeAttribute: () => { head.sorted = null; },
};
const body = {rows, replaceChildren: (...found) => {
  console.log(found.map(row => row.cells[0].dataset.value).join(" "));
}};
const later = LATER;
const dataset = {words: "0", ...(later.length ? {later: "rest"} : {})};
const document = {
  querySelectorAll: () => [{dataset, tHead: {rows: [{cells: [head]}]}, tBodies: [body]}],
  querySelector: () => ({addEventListener: (_, then) => { more = then; }}),
  getElementById: () => ({textContent: JSON.stringify(later)}),
  createElement: row,
};
SCRIPT
click();
click();
if (more) more({target: {remove: () => {}}});
"""


def clicked(page: str, values: list[str], later: list[object]) -> list[str]:
    """What the table shows after two clicks on its heading, and one on the button below it."""
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    program = BROWSER.replace("VALUES", json.dumps(values)).replace("LATER", json.dumps(later))
    words = ["node", "-e", program.replace("SCRIPT", script)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


@pytest.mark.usefixtures("undrawn")
@needs_node
@pytest.mark.parametrize(
    ("values", "up", "down"),
    [
        ("140.0 nan 9.0 inf 130.0", "9.0 130.0 140.0 inf nan", "inf 140.0 130.0 9.0 nan"),
        ("nan 2 nan 1", "1 2 nan nan", "2 1 nan nan"),
        ("lstm conv", "conv lstm", "lstm conv"),
    ],
)
def test_what_is_no_number_is_sorted_last_both_ways(
    report: StudyReport, out: Path, values: str, up: str, down: str
) -> None:
    assert clicked(make_page(report, out), values.split(), []) == [up, down]


@pytest.mark.usefixtures("undrawn")
@needs_node
def test_rows_behind_the_click_are_sorted_with_the_others(report: StudyReport, out: Path) -> None:
    later = [["#000", "1,000"], ["#000", ["7.0 ± 1.0", 7.04]], ["", ["nan ± nan", "nan"]]]
    shown = clicked(make_page(report, out), ["140", "9"], later)
    assert shown == ["7.04 9", "1000 140", "1000 140 9 7.04 nan"]


def large(report: StudyReport) -> StudyReport:
    """Many more rows than a page shows at once, one with a label that would end a script."""
    names = ["</script><b>", *(f"m{n}" for n in range(3 * SHOWN_ROWS))]
    study = StudyFile(**(dict(report.study) | {"axes": dict(report.study.axes) | {"model": names}}))
    first = report.trials[0]
    trials = tuple(
        first.model_copy(
            update={
                "labels": first.labels | {"model": name},
                "result": first.result.model_copy(update={"metrics": {"perplexity": 99.0 - n}}),
            }
        )
        for n, name in enumerate(names)
    )
    return report.model_copy(update={"study": study, "trials": trials})


@pytest.mark.usefixtures("undrawn")
def test_a_large_table_is_shown_in_part_with_the_rest_as_data(
    report: StudyReport, out: Path
) -> None:
    many = large(report)
    page = make_page(many, out)
    reader = read(page)
    assert reader.rows < SHOWN_ROWS + 400
    assert f"Show all {len(many.trials)} rows" in page
    (rest,) = re.findall(r'<script type="application/json" id="rows-\w+">(.*)</script>', page)
    rows = json.loads(rest)
    assert len(rows) == len(many.trials) - SHOWN_ROWS
    assert rows[0][1] == "</script><b>" and "</script><b>" not in page, "it is the worst row"
    assert "</script><b>" in (out / "rows.csv").read_text()


@pytest.mark.usefixtures("undrawn")
def test_what_is_no_number_is_written_as_the_script_reads_it(
    report: StudyReport, out: Path
) -> None:
    page = make_page(with_first_metric(report, math.nan), out)
    assert '<td data-value="nan" class="metric">' in page
