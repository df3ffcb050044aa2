"""Files of the splits in published layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import Corpus, load_corpus
from tests._support.translation_data import PAIRS, write_folder, write_sides


def load(folder: Path, *splits: str, source: str = "en", target: str = "de") -> Corpus:
    config = TranslationConfig(
        data=folder, source_lang=source, target_lang=target, evaluate_on=splits or ("test",)
    )
    return load_corpus(config, train=True)


@pytest.mark.parametrize("valid", ["valid", "val", "dev"])
@pytest.mark.parametrize("inner", ["", "raw", "data/task1/raw"])
def test_plain_files_and_multi30k(tmp_path: Path, valid: str, inner: str) -> None:
    write_sides(tmp_path / inner, "train", PAIRS)
    write_sides(tmp_path / inner, valid, PAIRS[:3])
    write_sides(tmp_path / inner, "test_2016_flickr", PAIRS[3:5])
    write_sides(tmp_path / inner, "test_2017_mscoco", PAIRS[5:6])
    corpus = load(tmp_path, "test", "test_2017_mscoco", "valid")
    assert {name: len(pairs) for name, pairs in corpus.splits.items()} == {
        "train": 25,
        "valid": 3,
        "test": 2,
        "test_2017_mscoco": 1,
    }
    assert corpus.splits["test"].source == tuple(pair[0] for pair in PAIRS[3:5])
    back = load(tmp_path, source="de", target="en")
    assert back.splits["test"].target == corpus.splits["test"].source
    assert back.fingerprint() != load(tmp_path).fingerprint() == load(tmp_path).fingerprint()


def write_iwslt(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for lang, words in (("de", ["eins", "zwei & drei"]), ("en", ["one", "two &amp; three"])):
        (folder / f"train.tags.de-en.{lang}").write_text(
            '<doc docid="1">\n<url>http://x</url>\n<keywords>talks, ' + lang + "</keywords>\n"
            f"<title>T {lang}</title>\n<description>D {lang}</description>\n"
            f" {words[0]} \n{words[1]}\n</doc>\n"
        )
        for part in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011"):
            segments = "".join(
                f'<seg id="{n}"> {part} {word} </seg>\n' for n, word in enumerate(words, 1)
            )
            text = f"<mteval>\n<doc>\n<title>T</title>\n{segments}</doc>\n</mteval>\n"
            (folder / f"IWSLT14.{part}.de-en.{lang}.xml").write_text(text)
    return folder


@pytest.mark.parametrize("inner", ["", "de-en"])
def test_iwslt(tmp_path: Path, inner: str) -> None:
    write_iwslt(tmp_path / inner)
    corpus = load(tmp_path, "test", "tst2011", source="de", target="en")
    train = corpus.splits["train"]
    assert train.source == ("T de", "D de", "eins", "zwei & drei")
    assert train.target == ("T en", "D en", "one", "two &amp; three")
    assert corpus.splits["valid"].source == (
        "TED.dev2010 eins",
        "TED.dev2010 zwei & drei",
        "TEDX.dev2012 eins",
        "TEDX.dev2012 zwei & drei",
    )
    assert len(corpus.splits["test"]) == 4
    assert corpus.splits["tst2011"].target == ("TED.tst2011 one", "TED.tst2011 two & three")
    assert load(tmp_path).splits["test"].target[0] == "TED.tst2010 eins"


def test_years_are_paired_by_name(tmp_path: Path) -> None:
    write_iwslt(tmp_path)
    (tmp_path / "IWSLT14.TED.tst2011.de-en.de.xml").unlink()
    (tmp_path / "IWSLT14.TED.tst2010.de-en.en.xml").unlink()
    with pytest.raises(DataError, match="must have a file of the same name for") as caught:
        load(tmp_path)
    path = tmp_path / "IWSLT14.TED.tst2011.de-en.en.xml"
    assert caught.value.path == path
    path.unlink()
    (tmp_path / "IWSLT14.TED.tst2010.de-en.de.xml").unlink()
    with pytest.raises(MissingDataError):
        load(tmp_path)


def test_one_year_more_in_one_language_is_an_error(tmp_path: Path) -> None:
    write_iwslt(tmp_path)
    (tmp_path / "IWSLT14.TED.dev2010.de-en.de.xml").unlink()
    with pytest.raises(DataError, match=r"dev2010\.de-en\.en\.xml` must have a file"):
        load(tmp_path)


def test_segments_may_share_a_line(tmp_path: Path) -> None:
    write_iwslt(tmp_path)
    for lang in ("de", "en"):
        file = tmp_path / f"IWSLT14.TED.tst2010.de-en.{lang}.xml"
        text = file.read_text()
        file.write_text(text.replace("</seg>\n<seg", "</seg> <seg"))
        assert file.read_text() != text
    found = load(tmp_path, "tst2010").splits["tst2010"]
    assert found.target == ("TED.tst2010 eins", "TED.tst2010 zwei & drei")
    file.write_text(file.read_text().replace("three </seg>", "three"))
    with pytest.raises(DataError, match=r"line 4, must hold segments that end on their line"):
        load(tmp_path, "tst2010")


def test_faults_in_xml_have_file_and_line(tmp_path: Path) -> None:
    write_iwslt(tmp_path)
    file = tmp_path / "IWSLT14.TED.tst2010.de-en.de.xml"
    text = file.read_text()
    file.write_text(text.replace(" eins </seg>", " eins"))
    with pytest.raises(DataError, match=r"tst2010\.de-en\.de\.xml`, line 4, .*does not end"):
        load(tmp_path)
    file.write_text("nothing\n")
    with pytest.raises(DataError, match="it has no segments"):
        load(tmp_path)
    file.write_text("\n".join(line for line in text.split("\n") if 'id="2"' not in line))
    with pytest.raises(DataError, match="have 2 and 1 lines"):
        load(tmp_path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "test.de").unlink()
    with pytest.raises(MissingDataError, match="leave `data` out to use phrases") as caught:
        load(tmp_path)
    assert caught.value.path == tmp_path
    assert caught.value.needs == (
        "be a folder with the split `test` as test.en and test.de; or test_2016_flickr.en and "
        "test_2016_flickr.de; or IWSLT's files of en and de"
    )
    assert caught.value.has == "the folder holds test.en, train.de, train.en, valid.de, valid.en"
    with pytest.raises(MissingDataError, match="that is not a folder"):
        load(tmp_path / "none")
    with pytest.raises(MissingDataError, match=r"train\.en and train\.fr"):
        load(tmp_path, target="fr")


def test_the_first_pairs_alone(tmp_path: Path) -> None:
    write_folder(tmp_path)
    corpus = load_corpus(TranslationConfig(data=tmp_path, train_pairs=7), train=True)
    assert len(corpus.splits["train"]) == 7
    assert len(corpus.splits["valid"]) == 5


@pytest.mark.data
def test_published_multi30k(data: Path) -> None:
    folder = data / "multi30k"
    if not folder.is_dir():
        pytest.skip(f"no Multi30k at {folder}")
    corpus = load(folder, "test", "test_2017_flickr", "test_2018_flickr")
    assert [len(pairs) for pairs in corpus.splits.values()] == [29000, 1014, 1000, 1000, 1071]
    tokenised = load(folder / "tok", source="de", target="en")
    assert len(tokenised.splits["train"]) == 29000
