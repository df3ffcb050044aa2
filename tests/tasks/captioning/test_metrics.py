"""The published scores: equal to the published numbers; what is missing is said."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from embshare.tasks.captioning import metrics
from embshare.tasks.captioning.config import SCORES
from embshare.tasks.captioning.metrics import (
    ScoreError,
    ScorePlan,
    ScoresLeftOutWarning,
    find_java,
    make_plan,
    read_spice,
    score_captions,
    score_words,
    split_words,
)

PACKAGE = metrics._package()
JAVA = find_java()
needs_package = pytest.mark.skipif(PACKAGE is None, reason="needs pycocoevalcap")
needs_java = pytest.mark.skipif(
    PACKAGE is None or JAVA is None, reason="needs pycocoevalcap and Java"
)
WRITTEN = ["A man's dog.", "two dogs"]


def make(wanted: tuple[str, ...] | None = None, quick: bool = False) -> ScorePlan:
    return make_plan(wanted, WRITTEN, quick=quick, memory="512M", seconds=60)


@pytest.fixture(scope="module")
def case(data: Path) -> dict[str, object]:
    folder = data / "coco_caption_eval"
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in (
            "gts_tokenized",
            "res_tokenized",
            "expected",
            "captions_val2014_fakecap_results",
        )
    }


@pytest.mark.data
@needs_package
def test_the_published_case_is_matched_to_six_digits(case: dict[str, dict[str, list[str]]]) -> None:
    references, captions = case["gts_tokenized"], case["res_tokenized"]
    plan = ScorePlan(("bleu", "rouge_l", "cider"), "plain", None, PACKAGE)
    found = score_words([captions[name][0] for name in references], list(references.values()), plan)
    expected: dict[str, float] = case["expected"]["corpus"]  # type: ignore[assignment]
    published = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    assert found.corpus == pytest.approx(
        {name.lower(): expected[name] for name in published}, abs=5e-7
    )


@pytest.mark.data
@pytest.mark.slow
@needs_java
def test_the_published_meteor_is_matched_to_six_digits(
    case: dict[str, dict[str, list[str]]],
) -> None:
    references, captions = case["gts_tokenized"], case["res_tokenized"]
    assert JAVA is not None
    plan = ScorePlan(("meteor",), "ptb", JAVA, PACKAGE)
    found = score_words([captions[name][0] for name in references], list(references.values()), plan)
    expected: dict[str, float] = case["expected"]["corpus"]  # type: ignore[assignment]
    assert found.corpus == {"meteor": pytest.approx(expected["METEOR"], abs=5e-7)}


@pytest.mark.data
@needs_java
def test_raw_captions_become_the_published_words(case: dict[str, dict[str, list[str]]]) -> None:
    rows: list[dict[str, str]] = case["captions_val2014_fakecap_results"]  # type: ignore[assignment]
    expected = case["res_tokenized"]
    found = split_words([row["caption"] for row in rows], make(("cider",)))
    assert found == [expected[str(row["image_id"])][0] for row in rows]


@needs_java
def test_every_caption_gets_its_own_line_whatever_it_holds() -> None:
    lines = ["A cat .", "", "one\u2028two\x85three\x0bfour\rfive", "naïve café ™", '"Hi"']
    found = split_words(lines, make(("cider",)))
    assert found == ["a cat", "", "one two three four five", "naïve café ™", "hi"]


@needs_java
@pytest.mark.slow
def test_meteor_takes_captions_without_words_and_with_its_own_mark() -> None:
    plan = make(("cider", "meteor"))
    assert score_captions(["", ""], [["a cat"], ["A dog", "dogs"]], plan).corpus["meteor"] == 0
    found = score_captions(["", "a dog ||| cat ."], [["a cat"], ["A dog", "dogs"]], plan).corpus
    assert 0 < found["meteor"] < 1


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """In place of Java: keeps its number in a file, then waits."""
    path = tmp_path / "java"
    path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    path.chmod(0o755)
    yield path


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("score", ["meteor", "words"])
def test_a_program_that_hangs_is_ended(program: Path, tmp_path: Path, score: str) -> None:
    begun = time.perf_counter()
    words = "ptb" if score == "words" else "plain"
    plan = ScorePlan(("cider", "meteor"), words, program, tmp_path, seconds=0.5)  # type: ignore[arg-type]
    with pytest.raises(ScoreError) as caught:
        score_captions(["a"], [["a"]], plan)
    assert str(caught.value) == (
        f"`{score}` cannot be computed: its Java program took more than 0.5 s. Raise "
        "`java_seconds`, or leave it out of `metrics`."
    )
    assert time.perf_counter() - begun < 20
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("score", ["meteor", "words"])
def test_a_program_that_fails_is_quoted(program: Path, tmp_path: Path, score: str) -> None:
    program.write_text("#!/bin/sh\necho 'java.lang.OutOfMemoryError: heap' >&2\nexit 3\n")
    words = "ptb" if score == "words" else "plain"
    plan = ScorePlan(("meteor",), words, program, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(
        ScoreError, match=r"failed \(java.lang.OutOfMemoryError: heap\)\. Give it m"
    ):
        score_captions(["a"], [["a"]], plan)


def test_java_is_found_by_its_home_first(
    program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java() == program
    (tmp_path / "home" / "bin").mkdir(parents=True)
    program.rename(tmp_path / "home" / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java() == tmp_path / "home" / "bin" / "java"


def without(monkeypatch: pytest.MonkeyPatch, *, package: bool, java: bool, tmp: Path) -> None:
    monkeypatch.setattr(metrics, "_package", lambda: tmp if package else None)
    monkeypatch.setattr(metrics, "find_java", lambda: Path("/bin/true") if java else None)


def test_without_java_the_other_scores_have_other_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, package=True, java=False, tmp=tmp_path)
    with pytest.warns(ScoresLeftOutWarning) as caught:
        plan = make()
    assert str(caught[0].message) == (
        "Meteor is left out: there is no Java (neither JAVA_HOME nor `java` on the path); spice "
        "is left out: there is no Java (neither JAVA_HOME nor `java` on the path); captions are "
        "split into words without Stanford's tokenizer, which needs pycocoevalcap and Java, so "
        "that scores are named with `_words` and are not those of other reports. Computed: bleu, "
        "rouge_l, cider."
    )
    assert (plan.words, plan.families) == ("words", ("bleu", "rouge_l", "cider"))
    assert set(plan.left_out) == {"meteor", "spice"}
    monkeypatch.undo()
    found = score_captions(WRITTEN, [["A man's dog"], ["dogs"]], ScorePlan(("cider",), "words"))
    assert set(found.corpus) == {"cider_words"}


def test_without_the_package_cider_is_still_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, package=False, java=True, tmp=tmp_path)
    with pytest.warns(ScoresLeftOutWarning, match=r"pycocoevalcap is not installed.*Computed: cid"):
        assert make().families == ("cider",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_plan(None, ["a b"], quick=True, memory="1G", seconds=1).words == "plain"


def test_the_parser_of_spice_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(monkeypatch, package=True, java=True, tmp=tmp_path)
    with pytest.warns(ScoresLeftOutWarning, match=r"Spice is left out: its parser \(stanford-core"):
        assert "spice" not in make().families
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for jar in metrics.PARSER:
        (tmp_path / "spice" / "lib" / jar).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make().families == SCORES


@pytest.mark.parametrize(
    ("name", "package", "way_out"),
    [
        ("meteor", True, "Install a Java runtime"),
        ("bleu", False, r"pip install 'embshare\[captioning\]'"),
    ],
)
def test_what_is_asked_for_by_name_must_be_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: bool, way_out: str
) -> None:
    without(monkeypatch, package=package, java=False, tmp=tmp_path)
    with pytest.raises(ScoreError, match=rf"`{name}` cannot be computed: .*{way_out}"):
        make(("cider", name))


def test_spices_answer_is_read() -> None:
    rows = [{"scores": {"All": {"f": value}}} for value in (0.5, float("nan"), 0.25)]
    assert read_spice(json.dumps(rows)) == 0.375
    assert read_spice("[]") == 0.0
