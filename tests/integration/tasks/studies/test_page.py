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

from embshare.tasks.studies.page import make_page, samples_of
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.study_file import TRIALS
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


def test_the_page_needs_nothing_from_elsewhere(report: StudyReport, out: Path) -> None:
    reader = read(make_page(report, out))
    assert reader.rows == 1 + 9
    assert all(address.startswith(("data:image/", "#")) for address in reader.addresses)


def test_numbers_are_shown_for_people_and_kept_for_sorting(report: StudyReport, out: Path) -> None:
    page = make_page(report, out)
    assert '<td data-value="200000">200,000</td>' in page
    assert re.search(r'data-value="131.0" class="metric">131.0 ± 1.4<', page)


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
    samples = list(samples_of(report, LM, out))
    assert len(samples) == 8
    assert samples[0].given == {"source": "<script>alert(1)</script>", "references": "a | b"}
    assert len(samples[0].predictions) == 9
    assert samples[0].predictions[0] == ("LSTM, dense", "lstm says & dense")
    page = make_page(report, out)
    assert "<script>alert" not in page
    assert "lstm says &amp; dense" in page
    assert len([a for a in read(page).addresses if a.startswith("data:image/png")]) == 1 + 8


def test_a_model_without_samples_leaves_none_out_of_step(report: StudyReport, out: Path) -> None:
    assert list(samples_of(report, LM, out)) == []


# As much of a browser as the page's script asks for: it clicks on the column of the metric twice.
BROWSER = """
let click;
const rows = VALUES.map(value => ({cells: [{dataset: {value}}]}));
const head = {
  sorted: null,
  firstElementChild: {addEventListener: (_, then) => { click = then; }},
  getAttribute: () => head.sorted,
  setAttribute: (_, value) => { head.sorted = value; },
  removeAttribute: () => { head.sorted = null; },
};
const body = {rows, append: (...found) => {
  console.log(found.map(row => row.cells[0].dataset.value).join(" "));
}};
const document = {
  querySelectorAll: () => [{tHead: {rows: [{cells: [head]}]}, tBodies: [body]}],
};
SCRIPT
click();
click();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
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
    script = make_page(report, out).partition("<script>")[2].partition("</script>")[0]
    program = BROWSER.replace("VALUES", json.dumps(values.split())).replace("SCRIPT", script)
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [up, down]


def test_what_is_no_number_is_written_as_the_script_reads_it(
    report: StudyReport, out: Path
) -> None:
    page = make_page(with_first_metric(report, math.nan), out)
    assert '<td data-value="nan" class="metric">' in page
