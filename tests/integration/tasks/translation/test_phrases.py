"""Phrases of the same meaning in two languages."""

from __future__ import annotations

from hashlib import sha256

import pytest

from embshare.tasks.errors import MissingDataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import load_corpus
from embshare.tasks.translation.phrases import Renderer, phrase_pairs


def test_the_same_is_meant_in_both() -> None:
    english, german = Renderer.of("en"), Renderer.of("de")
    assert english.territory("DE") == "Germany"
    assert german.territory("DE") == "Deutschland"
    assert english.amount(2, "length-kilometer") == "2 kilometers"
    assert german.rate(120, "length-kilometer", "duration-hour") == "120 Kilometer pro Stunde"
    assert german.distance(-3 * 86_400, "day") == "vor 3 Tagen"
    assert german.all_of([german.language("fr"), german.language("es")]) == (
        "Französisch und Spanisch"
    )


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de", "fr"), ("pt-BR", "ja")])
def test_phrases_are_different_and_the_same_again(source: str, target: str) -> None:
    found = phrase_pairs(source, target, count=300, seed=5)
    assert found == phrase_pairs(source, target, count=300, seed=5)
    assert found != phrase_pairs(source, target, count=300, seed=6)
    assert len({first for first, _ in found}) == 300
    assert all(side == " ".join(side.split()) != "" for pair in found for side in pair)
    back = phrase_pairs(target, source, count=300, seed=5)
    both = {pair[::-1] for pair in back} & set(found)
    assert len(both) > 250  # which phrases are doubled differs between languages


def test_names_that_one_language_has_not_are_left_out() -> None:
    for source, target in (("en", "co"), ("sa", "kw"), ("rw", "de")):
        found = phrase_pairs(source, target, count=400, seed=1)
        assert len(found) == 400
        assert all(side for pair in found for side in pair)
    with pytest.raises(MissingDataError, match="has the name of no language in both") as caught:
        phrase_pairs("en", "gn", count=1, seed=0)
    assert caught.value.needs == "have names in both 'en' and 'gn'"


def test_phrases_are_those_of_earlier_results() -> None:
    import babel

    if babel.__version__ != "2.18.0":
        pytest.skip("versions of Babel differ in their CLDR")
    found = {
        pair: sha256(repr(phrase_pairs(*pair, count=500, seed=5)).encode()).hexdigest()[:16]
        for pair in (("en", "de"), ("de", "fr"))
    }
    assert found == {("en", "de"): "843abcbe42d73056", ("de", "fr"): "8900dc4d2b3b6a9d"}


def test_no_tested_phrase_is_trained_on() -> None:
    splits = load_corpus(TranslationConfig(train_pairs=500), train=True).splits
    sides = {split: set(pairs.source) for split, pairs in splits.items()}
    assert [len(pairs) for pairs in splits.values()] == [500, 300, 300]
    assert not sides["train"] & sides["test"]
    assert not sides["valid"] & sides["test"]
    more = load_corpus(TranslationConfig(train_pairs=600), train=True).splits
    assert more["test"] == splits["test"]


def test_what_the_cldr_has_not_is_said() -> None:
    with pytest.raises(MissingDataError, match="must have the language 'tlh_XX', but Babel knows"):
        phrase_pairs("en", "tlh_XX", count=1, seed=0)
    with pytest.raises(MissingDataError, match="it has test, train, valid"):
        load_corpus(TranslationConfig(evaluate_on=("test2",)), train=False)
