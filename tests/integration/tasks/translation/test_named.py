"""Data sets by name, from folders in place of downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.data import Corpus, load_corpus
from tests._support.translation_data import PAIRS, write_folder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def write_hub(folder: Path, *, nested: bool) -> Path:
    """What ``load_dataset`` reads without a network: a file of rows for each split."""
    folder.mkdir()
    for split, pairs in (("train", PAIRS), ("validation", PAIRS[:4]), ("test", PAIRS[4:7])):
        rows = [{"en": source, "de": target} for source, target in pairs]
        lines = [json.dumps({"translation": row} if nested else row) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def load(data: str, *, train: bool = True, **changes: Any) -> Corpus:
    return load_corpus(TranslationConfig(data=Path(data), **changes), train=train)


@pytest.mark.parametrize("nested", [True, False])
def test_a_set_of_datasets(tmp_path: Path, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # type: ignore[import-untyped]

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = write_hub(tmp_path / "set", nested=nested)
    corpus = load(f"hub:{folder}")
    assert [len(pairs) for pairs in corpus.splits.values()] == [25, 4, 3]
    assert corpus.splits["test"].source == tuple(pair[0] for pair in PAIRS[4:7])
    assert corpus.splits["test"].target == tuple(pair[1] for pair in PAIRS[4:7])
    with pytest.raises(MissingDataError, match=r"(without fr|its columns are)"):
        load(f"hub:{folder}", target_lang="fr")
    with pytest.raises(MissingDataError, match="the splits train, validation, test, and no `t"):
        load(f"hub:{folder}", evaluate_on=("test2",))


def test_a_set_that_was_saved_and_its_rows_by_number(tmp_path: Path) -> None:
    import datasets

    pairs = [{"en": source, "de": target} for source, target in PAIRS]
    pairs[11]["de"] = ""
    part = datasets.Dataset.from_dict({"translation": pairs})
    whole = datasets.Dataset.from_dict({"translation": pairs[:5]})
    folder = tmp_path / "saved"
    datasets.DatasetDict(train=part, validation=whole, test=whole).save_to_disk(str(folder))
    with pytest.raises(DataError, match=r"saved, split train, de`, line 12, must hold"):
        load(f"hub:{folder}")
    assert len(load(f"hub:{folder}", empty_lines="skip").splits["train"]) == 24


def saved(folder: Path, rows: dict[str, list[Any]]) -> str:
    import datasets

    good = datasets.Dataset.from_dict({"en": ["one"], "de": ["eins"]})
    part = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict(train=part, validation=good, test=good).save_to_disk(str(folder))
    return f"hub:{folder}"


@pytest.mark.parametrize(
    "rows",
    [
        {"translation": [{"en": "one", "de": "eins"}, None]},
        {"translation": [{"en": "one", "de": "eins"}, {"en": None, "de": None}]},
        {"en": ["one", None], "de": ["eins", "zwei"]},
    ],
)
def test_a_row_that_is_null_has_empty_sides(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    name = saved(tmp_path / "set", rows)
    with pytest.raises(DataError, match=r"split train, en`, line 2, must hold a sentence"):
        load(name)
    train = load(name, empty_lines="skip").splits["train"]
    assert (len(train), train.left_out) == (1, 1)


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (
            {"en": ["one", "two"], "de": [1, 2]},
            r"train, de`, line 1, must be text, but is a int\.",
        ),
        (
            {"en": [["one"]], "de": ["eins"]},
            r"train, en`, line 1, must be text, but is a list\.",
        ),
        (
            {"translation": [{"en": "one", "de": 3}]},
            r"train, de`, line 1, must be text, but is a int\.",
        ),
        (
            {"translation": [None, "en de"]},
            r"`, line 2, must be a mapping .*, but is a str\.",
        ),
    ],
)
def test_a_row_that_is_no_text_is_named(
    tmp_path: Path, rows: dict[str, list[Any]], finding: str
) -> None:
    with pytest.raises(DataError, match=finding):
        load(saved(tmp_path / "set", rows))


def test_a_set_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"^`hub:.*none` must be a translation set that"):
        load(f"hub:{tmp_path}/none")


@pytest.fixture
def wmt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which sacreBLEU would put a test set, with two references."""
    from sacrebleu.dataset import DATASETS

    folder = tmp_path / "wmt"
    folder.mkdir()
    files = [folder / name for name in ("src", "ref", "ref2")]
    for file, lines in zip(files, (["one", "two"], ["eins", "zwei"], ["1", "2"]), strict=True):
        file.write_text("\n".join(lines) + "\n")
    found: Any = DATASETS["wmt14"]
    monkeypatch.setattr(found, "get_source_file", lambda pair: str(files[0]))
    monkeypatch.setattr(found, "get_reference_files", lambda pair: [str(f) for f in files[1:]])
    return folder


def test_a_test_set_of_sacrebleu(wmt: Path, tmp_path: Path) -> None:
    corpus = load("sacrebleu:wmt14", train=False)
    (pairs,) = corpus.splits.values()
    assert (pairs.source, pairs.target, pairs.others) == (
        ("one", "two"),
        ("eins", "zwei"),
        (("1", "2"),),
    )
    folder = write_folder(tmp_path / "data")
    beside = load(str(folder), evaluate_on=("test", "sacrebleu:wmt14"))
    assert [*beside.splits] == ["train", "valid", "test", "sacrebleu:wmt14"]


def test_sacrebleu_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDataError, match=r"`sacrebleu:wmt41`.* of en-de it has .*wmt"):
        load("sacrebleu:wmt41", train=False)
    with pytest.raises(MissingDataError, match="but sacreBLEU has test sets only"):
        load("sacrebleu:wmt14")
    from sacrebleu.dataset import DATASETS

    def fail(pair: str) -> str:
        raise SystemExit(1)

    found: Any = DATASETS["wmt14"]
    monkeypatch.setattr(found, "get_source_file", fail)
    with pytest.raises(MissingDataError, match="Check the name, the languages and the network"):
        load("sacrebleu:wmt14", train=False)


def test_data_without_a_validation_set_can_be_evaluated_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = write_hub(tmp_path / "set", nested=True)
    assert list(load(f"hub:{folder}", train=False).splits) == ["valid", "test"]
    (folder / "validation.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (folder / "train.jsonl").unlink()
    assert list(load(f"hub:{folder}", train=False).splits) == ["test"]
    with pytest.raises(MissingDataError, match="without fr"):
        load(f"hub:{folder}", train=False, target_lang="fr")
