"""BLiMP on models whose likelihoods are known by hand, and every fault of its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.tasks.blimp import Pair, blimp_scores, read_pairs
from embshare.tasks.blimp.metrics import score_pairs
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.processor import LanguageModellingProcessor, learn_processor
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.processor import PretrainingProcessor
from embshare.tasks.pretraining.task import learn_tokenizer
from tests.integration.tasks.text.unigram import Unigram

TEXT = "the dog barks . the dogs bark . the cat sleeps . don 't the cats sleep ?\n"


def write(folder: Path, name: str, pairs: list[tuple[str, str]], term: str = "agreement") -> None:
    lines = [
        json.dumps(
            {"sentence_good": good, "sentence_bad": bad, "UID": name, "linguistics_term": term}
        )
        for good, bad in pairs
    ]
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "blimp"
    write(where, "one", [("The dog barks.", "The dogs barks."), ("the cat", "the cats")])
    write(where, "two", [("the dogs bark", "the dog bark")] * 3 + [("the", "the")])
    write(where, "three", [("cats", "cat")], term="other")
    return where


class ByWords:
    """Scores a sentence by the weights of its words; needs no model."""

    def __init__(self, **weights: float) -> None:
        self.weights = weights

    def log_likelihoods(self, model: object, sentences: Sequence[str]) -> np.ndarray:
        words = [sentence.lower().strip(".").split() for sentence in sentences]
        return np.array([sum(self.weights.get(word, 0.0) for word in row) for row in words])


def causal(level: Any, text: str = TEXT.lower() + "The\n") -> LanguageModellingProcessor:
    size = None if level == "word" else 280
    return learn_processor(LanguageModellingConfig(level=level, vocabulary_size=size), text)


def masked() -> PretrainingProcessor:
    config = PretrainingConfig(vocabulary_size=120, tokenization="wordpiece")
    return PretrainingProcessor(config, learn_tokenizer(config, [TEXT] * 20))


def unigram(processor: Any) -> Unigram:
    return Unigram(torch.randn(processor.model_config("lstm").vocab_size))


def test_the_likelier_sentence_is_the_answer(folder: Path) -> None:
    score: Any = ByWords(dog=1.0, cat=0.5, cats=0.4)
    found = blimp_scores(Unigram(torch.zeros(2)), score, folder)
    assert found["blimp/paradigm/one"] == 1.0
    assert found["blimp/paradigm/two"] == 0.0  # the tie at its end is wrong too
    assert found["blimp/paradigm/three"] == 0.0
    assert found["blimp/agreement"] == 0.5 and found["blimp/other"] == 0.0
    assert found["blimp"] == pytest.approx(1 / 3) and found["blimp_pairs"] == 7
    score = ByWords(dogs=1.0, cats=1.0)
    other = blimp_scores(Unigram(torch.zeros(2)), score, folder)
    assert other["blimp/paradigm/two"] == 0.75
    assert other["blimp"] == pytest.approx((0 + 0.75 + 1) / 3)


def test_unknown_words_make_ties(folder: Path) -> None:
    write(folder, "four", [("a zebra runs", "a giraffe runs")])
    processor = causal("word")
    for _ in range(3):
        found = blimp_scores(unigram(processor), processor, folder)
        assert found["blimp/paradigm/four"] == 0


@pytest.mark.parametrize(
    "text", ["It is n't Bill 's , so ca n't .", "It isn 't Bill 's , so can 't ."]
)
def test_endings_stand_as_in_the_text_that_words_are_from(text: str) -> None:
    processor, rows = causal("word", f"{text}\n"), list[list[int]]()
    model = unigram(processor)
    model.register_forward_pre_hook(
        lambda _, __, given: rows.extend(given["input_ids"].tolist()), with_kwargs=True
    )
    processor.log_likelihoods(model, ["It isn't Bill's, so can't."])
    assert rows[0][1:] == processor.tokenizer.encode_prompt(text).tolist()


def test_causal_and_masked_processors_score(folder: Path) -> None:
    for processor in (causal("subword"), masked()):
        found = blimp_scores(unigram(processor), processor, folder, most=1)
        assert found["blimp_pairs"] == 3 and 0 <= found["blimp"] <= 1


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_model_with_too_few_positions_is_refused(tmp_path: Path, kind: str) -> None:
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    write(tmp_path / "blimp", "one", [("the dog", "the dogs " * 20)])
    processor: Any = causal("word") if kind == "causal" else masked()
    count = processor.model_config("lstm").vocab_size
    model = (
        GPT2LMHeadModel(GPT2Config(vocab_size=count, n_positions=16, n_embd=8, n_head=2, n_layer=1))
        if kind == "causal"
        else BertForMaskedLM(
            BertConfig(
                vocab_size=count,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=16,
            )
        )
    )
    message = r"LM\w*` cannot be used .* a row of 4\d .* a model with more positions"
    with pytest.raises(ModelNotForTaskError, match=message):
        blimp_scores(model, processor, tmp_path / "blimp")
    assert not model.training


def test_a_model_that_replaces_words_is_asked_in_evaluation_mode(folder: Path) -> None:
    from embshare.models.convbert import ConvBertConfig, ConvBertForPreTraining

    processor = masked()
    config = ConvBertConfig(
        vocab_size=processor.model_config("lstm").vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        embedding_size=16,
        conv_kernel_size=3,
        generator_hidden_ratio=0.5,
        max_predictions=4,
    )
    model = ConvBertForPreTraining(config)
    first = blimp_scores(model, processor, folder)
    assert not model.training and blimp_scores(model, processor, folder) == first


@pytest.mark.parametrize("most", [0, -1])
def test_no_pairs_are_no_score(folder: Path, most: int) -> None:
    with pytest.raises(InvalidValueError, match=f"at least 1 pair of each .*, but is {most}"):
        read_pairs(folder, most=most)


def test_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidValueError, match="language_modelling or pretraining, but is int"):
        blimp_scores(Unigram(torch.zeros(2)), 3, folder)  # type: ignore[arg-type]


def test_random_answers_are_half_right() -> None:
    pairs = [Pair(f"good {n}", f"bad {n}", f"p{n % 5}", "t") for n in range(4000)]
    random = np.random.default_rng(0)
    found = score_pairs(pairs, lambda sentences: random.random(len(sentences)))
    assert found["blimp"] == pytest.approx(0.5, abs=0.03)
    assert sum(name.startswith("blimp/paradigm/") for name in found) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2, must be a pair as published, JSON with sentence_good, .*is none"),
        ('{"sentence_good": "a"}', "KeyError: 'sentence_bad'"),
        (
            '{"sentence_good": 3, "sentence_bad": "a", "UID": "u", "linguistics_term": "t"}',
            "one of these is no text",
        ),
    ],
)
def test_a_wrong_line_is_told(folder: Path, line: str, message: str) -> None:
    with (folder / "three.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        read_pairs(folder)


def test_a_file_without_pairs_is_refused(folder: Path) -> None:
    (folder / "three.jsonl").write_text("\n")
    with pytest.raises(DataError, match="must hold pairs of sentences, but has none") as caught:
        read_pairs(folder)
    assert (caught.value.path, caught.value.line) == (folder / "three.jsonl", None)
    assert "github.com/alexwarstadt/blimp" in caught.value.hint


def test_another_encoding_is_told_with_its_line(folder: Path) -> None:
    with (folder / "three.jsonl").open("ab") as file:
        file.write(b"\n\xff\n")
    message = r"three\.jsonl`, line 3, must be UTF-8, but has the byte 0xff"
    with pytest.raises(DataError, match=message):
        read_pairs(folder)


def test_a_sentence_may_hold_what_ends_lines_elsewhere(folder: Path) -> None:
    path = folder / "three.jsonl"
    path.write_text(path.read_text().replace("cats", "ca\u2028ts"), encoding="utf-8")
    assert "ca\u2028ts" in [pair.good for pair in read_pairs(folder)]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="but has no such file"):
        read_pairs(tmp_path)


@pytest.mark.data
def test_the_published_files_are_read(data: Path) -> None:
    pairs = read_pairs(data / "blimp")
    assert len(pairs) == 67_000
    assert len({pair.paradigm for pair in pairs}) == 67
    assert len({pair.phenomenon for pair in pairs}) == 12
    assert sum(pair.good == pair.bad for pair in pairs) == 7
    scores = score_pairs(pairs, lambda sentences: -np.array([float(len(s)) for s in sentences]))
    assert 0.3 < scores["blimp"] < 0.7  # shorter sentences are not the better ones


@pytest.mark.data
def test_published_accuracies_have_the_published_mean(data: Path) -> None:
    """Answers that are right as often as the published LSTM's give its published mean."""
    lines = (data / "blimp" / "published_models_summary.jsonl").read_text().splitlines()
    published = {found["UID"]: found["lstm"] for found in map(json.loads, lines)}
    names = {pair.paradigm for pair in read_pairs(data / "blimp", most=1)} & published.keys()
    pairs = [
        Pair(f"{name} {n} good", f"{name} {n} bad", name, "t")
        for name in sorted(names)
        for n in range(1000)
    ]

    def answers(sentences: Sequence[str]) -> np.ndarray:
        parts = [sentence.split() for sentence in sentences]
        right = [int(n) < round(1000 * published[name]) for name, n, _ in parts]
        good = [kind == "good" for _, _, kind in parts]
        return np.array([float(a == b) for a, b in zip(right, good, strict=True)])

    assert len(names) == 67
    assert 100 * score_pairs(pairs, answers)["blimp"] == pytest.approx(69.8, abs=0.05)
