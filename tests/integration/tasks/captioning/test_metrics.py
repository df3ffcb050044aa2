"""The published scores: equal to the published numbers; what is missing is said."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest

from embshare.errors import InvalidValueError
from embshare.tasks.captioning import metrics
from embshare.tasks.captioning.config import SCORES
from embshare.tasks.captioning.metrics import (
    CLASSES,
    ScorePlan,
    Scores,
    ScoresLeftOutWarning,
    make_plan,
    score_words,
    split_words,
)
from embshare.tasks.errors import DataError

pytest.importorskip("pycocoevalcap")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
WRITTEN = ["A man's dog.", "two dogs"]


def make(wanted: tuple[str, ...] | None = None, quick: bool = False) -> ScorePlan:
    return make_plan(wanted, WRITTEN, quick=quick)


def score(captions: list[str], references: list[list[str]], plan: ScorePlan) -> Scores:
    words = [split_words(lines, plan) for lines in references]
    return score_words(split_words(captions, plan), words, plan)


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
def test_the_published_case_is_matched_to_six_digits(case: dict[str, dict[str, list[str]]]) -> None:
    references, captions = case["gts_tokenized"], case["res_tokenized"]
    plan = ScorePlan(("bleu", "rouge_l", "cider"), "plain")
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
    plan = ScorePlan(("meteor",), "ptb")
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
@pytest.mark.parametrize("lines", [["", ""], ["a cat", "", ""], []])
def test_empty_captions_stay_empty(lines: list[str]) -> None:
    assert split_words(lines, make(("cider",))) == lines


@needs_java
def test_text_is_utf_8_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "POSIX")
    assert split_words(["Naïve café ™"], make(("cider",))) == ["naïve café ™"]


@needs_java
@pytest.mark.slow
def test_meteor_takes_captions_without_words_and_with_its_own_mark() -> None:
    plan = make(("cider", "meteor"))
    assert score(["", ""], [["a cat"], ["A dog", "dogs"]], plan).corpus["meteor"] == 0
    found = score(["", "a dog ||| cat ."], [["a cat"], ["A dog", "dogs"]], plan).corpus
    assert 0 < found["meteor"] < 1


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of Java, a program that fails."""
    path = tmp_path / "java"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


@pytest.mark.parametrize("what", ["meteor", "tokenizer"])
def test_a_program_that_fails_is_named(java: Path, what: str) -> None:
    plan = ScorePlan(("cider", "meteor"), "ptb" if what == "tokenizer" else "plain")
    with pytest.raises(
        DataError, match=r"must compute .*, but fails \(.*Its Java program"
    ) as caught:
        score(["a", "b"], [["a"], ["b"]], plan)
    assert caught.value.path.name == what


def test_spices_mean_is_of_images_that_have_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spice:
        def compute_score(self, *_: object) -> tuple[float, list[dict[str, dict[str, float]]]]:
            return float("nan"), [{"All": {"f": value}} for value in (0.5, float("nan"), 0.25)]

    monkeypatch.setattr(metrics, "_made", lambda *_: Spice())
    assert score_words(["a"] * 3, [["a"]] * 3, ScorePlan(("spice",), "plain")).corpus == {
        "spice": 0.375
    }


def without_java(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder / "nothing"))


def test_without_java_the_other_scores_have_other_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_java(monkeypatch, tmp_path)
    with pytest.warns(ScoresLeftOutWarning) as caught:
        plan = make()
    assert str(caught[0].message) == (
        "Meteor is left out: there is no `java` on the path (8 or newer); spice is left out: there "
        "is no `java` on the path (8 or newer); captions are split into words without Stanford's "
        "tokenizer, which needs Java, so that scores are named with `_words` and are not those of "
        "other reports. Computed: bleu, rouge_l, cider."
    )
    assert (plan.words, plan.families) == ("words", ("bleu", "rouge_l", "cider"))
    assert set(plan.left_out) == {"meteor", "spice"}
    found = score(WRITTEN, [["A man's dog"], ["dogs"]], ScorePlan(("cider",), "words"))
    assert set(found.corpus) == {"cider_words"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_plan(None, ["a b"], quick=True).words == "plain"


def test_the_parser_of_spice_is_looked_for(
    java: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metrics, "_folder", lambda: tmp_path)
    with pytest.warns(ScoresLeftOutWarning, match=r"Spice is left out: its parser \(stanford-core"):
        assert "spice" not in make().families
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for jar in metrics.PARSER:
        (tmp_path / "spice" / "lib" / jar).touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make().families == SCORES


def test_what_is_asked_for_by_name_must_be_possible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_java(monkeypatch, tmp_path)
    with pytest.raises(InvalidValueError, match=r"`meteor`, which cannot .*no `java` on the path"):
        make(("cider", "meteor"))


def test_every_score_has_its_class() -> None:
    assert tuple(CLASSES) == SCORES
