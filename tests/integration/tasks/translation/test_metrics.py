"""BLEU and chrF, with signatures."""

from __future__ import annotations

import pytest
import sacrebleu

from embshare.tasks.translation.metrics import Scorers

FOUND = ["Das ist ein Haus.", "Der Hund läuft im Park!"]
TRUE = [
    ["Das ist ein Haus.", "Ein Hund läuft durch den Park!"],
    ["Dies ist ein Haus.", "Der Hund läuft."],
]


def test_scores_are_those_of_sacrebleu() -> None:
    scores = Scorers().score(FOUND, TRUE)
    assert scores["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(FOUND, TRUE).score)
    assert scores["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(FOUND, TRUE).score)
    version = sacrebleu.__version__
    assert scores["bleu"].signature == (
        f"nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    )
    assert scores["chrf"].signature == (
        f"nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    )


def test_signatures_are_known_before_anything_is_translated() -> None:
    for scorers in (Scorers(), Scorers(tokenizer="none", lowercase=True)):
        for references in (TRUE, TRUE[:1]):
            found = {k: v.signature for k, v in scorers.score(FOUND, references).items()}
            assert scorers.signatures(references) == found


def test_case_and_words_are_as_the_settings_say() -> None:
    lower = Scorers(lowercase=True).score(["das IST ein haus."], [["Das ist ein Haus."]])
    assert lower["bleu"].value == pytest.approx(100)
    assert "case:lc" in lower["bleu"].signature
    assert "tok:none" in Scorers(tokenizer="none").score(FOUND, TRUE)["bleu"].signature
