"""BLiMP on models whose likelihoods are known by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.errors import InvalidValueError
from embshare.models.matched import MatchedConfig, MatchedLanguageModel, MatchedMaskedLanguageModel
from embshare.tasks.blimp import BlimpDataError, Pair, blimp_scores, read_pairs
from embshare.tasks.blimp.likelihood import log_likelihoods, pseudo_log_likelihoods
from embshare.tasks.blimp.scores import NotALanguageModelError, score_pairs
from embshare.tasks.building import ModelNotForTaskError
from embshare.tasks.language_modelling.vocabulary import SubwordVocabulary, WordVocabulary
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary

TEXT = "the dog barks . the dogs bark . the cat sleeps . don 't the cats sleep ?\n"


class Unigram(nn.Module):
    """Every symbol with a probability of its own, whatever stands around it."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        return {"logits": self.weights.expand(*input_ids.shape, -1)}


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


def words() -> WordVocabulary:
    return WordVocabulary.learn(TEXT.lower() + "The\n")


def masked_words() -> MaskedVocabulary:
    return MaskedVocabulary.learn(
        lambda: [TEXT] * 20, PretrainingConfig(vocabulary_size=120, tokenization="wordpiece")
    )


def favouring(vocabulary: WordVocabulary, **weights: float) -> Unigram:
    found = torch.zeros(len(vocabulary))
    for word, weight in weights.items():
        found[vocabulary.ids[word]] = weight
    return Unigram(found)


def test_a_unigram_model_answers_as_its_weights_do(folder: Path) -> None:
    vocabulary = words()
    found = blimp_scores(favouring(vocabulary, dog=1.0, cat=0.5, cats=0.4), vocabulary, folder)
    assert found["blimp/paradigm/one"] == 1.0
    assert found["blimp/paradigm/two"] == 0.0  # the tie at its end is wrong too
    assert found["blimp/paradigm/three"] == 0.0
    assert found["blimp/agreement"] == 0.5 and found["blimp/other"] == 0.0
    assert found["blimp"] == pytest.approx(1 / 3) and found["blimp_pairs"] == 7
    other = blimp_scores(favouring(vocabulary, dogs=1.0, cats=1.0), vocabulary, folder)
    assert other["blimp/paradigm/two"] == 0.75
    assert other["blimp"] == pytest.approx((0 + 0.75 + 1) / 3)


def test_unknown_words_make_ties(folder: Path) -> None:
    write(folder, "four", [("a zebra runs", "a giraffe runs")])
    torch.manual_seed(0)
    vocabulary = words()
    for _ in range(3):
        model = Unigram(torch.randn(len(vocabulary)))
        assert blimp_scores(model, vocabulary, folder)["blimp/paradigm/four"] == 0


@pytest.mark.parametrize(
    "text", ["It is n't Bill 's , so ca n't .", "It isn 't Bill 's , so can 't ."]
)
def test_endings_stand_as_in_the_text_that_words_are_from(tmp_path: Path, text: str) -> None:
    write(tmp_path / "blimp", "one", [("It isn't Bill's, so can't.", "It can't.")])
    vocabulary, rows = WordVocabulary.learn(f"{text}\n"), list[Tensor]()
    model = Unigram(torch.randn(len(vocabulary)))
    model.register_forward_pre_hook(
        lambda _, __, given: rows.extend(given["input_ids"]), with_kwargs=True
    )
    blimp_scores(model, vocabulary, tmp_path / "blimp")
    seen = [vocabulary.decode(row[1:]) for row in rows]
    assert text in seen
    assert not any("<unk>" in line for line in seen)


def test_likelihoods_are_sums_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weights = torch.randn(9)
    log_p = weights.log_softmax(0).double().numpy()
    sentences = [[3, 1], [2], [8, 8, 0, 5, 4], [1, 7, 7], []]
    wanted = [sum(log_p[i] for i in sentence) for sentence in sentences]
    for most in (2**15, 4):
        monkeypatch.setattr("embshare.tasks.blimp.likelihood.SYMBOLS", most)
        causal = log_likelihoods(Unigram(weights), sentences, start=0, vocabulary=9)
        assert causal.tolist() == pytest.approx(wanted, rel=1e-5)
        for logits in (2**23, 18):
            monkeypatch.setattr("embshare.tasks.blimp.likelihood.LOGITS", logits)
            masked = pseudo_log_likelihoods(
                Unigram(weights), sentences, begin=1, end=2, mask=3, pad=0, vocabulary=9
            )
            assert masked.tolist() == pytest.approx(wanted, rel=1e-5)


SIZES: dict[str, Any] = {"vocab_size": 40, "width": 16, "layers": 2, "heads": 2}


@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_a_causal_model_is_asked_from_left_to_right(architecture: Any) -> None:
    model = MatchedLanguageModel(MatchedConfig(architecture=architecture, **SIZES)).eval()
    sentences = [[5, 6, 7], [9, 9, 10, 11, 12, 13], [8]]
    found = log_likelihoods(model, sentences, start=2, vocabulary=40)
    for value, sentence in zip(found, sentences, strict=True):
        log_p = model(torch.tensor([[2, *sentence]]))["logits"].log_softmax(-1)[0]
        wanted = sum(float(log_p[t, symbol].detach()) for t, symbol in enumerate(sentence))
        assert value == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("architecture", ["lstm", "conv", "attention"])
def test_a_masked_model_is_asked_for_each_symbol(architecture: Any) -> None:
    model = MatchedMaskedLanguageModel(MatchedConfig(architecture=architecture, **SIZES)).eval()
    embshare.share_from_embedding(model, embshare.ShareConfig(tie="all"))
    sentences = [[5, 6, 7], [9, 9, 10, 11, 12, 13], [8]]
    found = pseudo_log_likelihoods(model, sentences, begin=2, end=3, mask=4, pad=0, vocabulary=40)
    for value, sentence in zip(found, sentences, strict=True):
        total = 0.0
        for place, symbol in enumerate(sentence):
            ids = torch.tensor([[2, *sentence, 3]])
            ids[0, place + 1] = 4
            log_p = model(ids)["logits"].log_softmax(-1)
            total += float(log_p[0, place + 1, symbol].detach())
        assert value == pytest.approx(total, rel=1e-4)


def test_a_masked_vocabulary_and_a_subword_vocabulary_are_known(folder: Path) -> None:
    masked = masked_words()
    subword = SubwordVocabulary.learn(TEXT * 20, 280)
    for vocabulary in (masked, subword):
        found = blimp_scores(Unigram(torch.randn(len(vocabulary))), vocabulary, folder, most=1)
        assert found["blimp_pairs"] == 3 and 0 <= found["blimp"] <= 1


@pytest.mark.parametrize("causal", [True, False])
def test_a_model_with_too_few_positions_is_refused(tmp_path: Path, causal: bool) -> None:
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    write(tmp_path / "blimp", "one", [("the dog", "the dogs " * 20)])
    vocabulary: Any = words() if causal else masked_words()
    count = len(vocabulary)
    model = (
        GPT2LMHeadModel(GPT2Config(vocab_size=count, n_positions=16, n_embd=8, n_head=2, n_layer=1))
        if causal
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
    message = (
        r"LM\w*` cannot be used .* not read a row of 4\d tokens .* a model with more positions"
    )
    with pytest.raises(ModelNotForTaskError, match=message):
        blimp_scores(model, vocabulary, tmp_path / "blimp")
    assert not model.training


def test_a_model_that_replaces_words_is_asked_in_evaluation_mode(folder: Path) -> None:
    from embshare.models.convbert import ConvBertConfig, ConvBertForPreTraining

    vocabulary = masked_words()
    config = ConvBertConfig(
        vocab_size=len(vocabulary),
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
    first = blimp_scores(model, vocabulary, folder)
    assert not model.training and blimp_scores(model, vocabulary, folder) == first


@pytest.mark.parametrize("most", [0, -1])
def test_no_pairs_are_no_score(folder: Path, most: int) -> None:
    with pytest.raises(InvalidValueError, match=f"at least 1 pair of each .*, but is {most}"):
        read_pairs(folder, most=most)


def test_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(NotALanguageModelError, match="but was given int"):
        blimp_scores(Unigram(torch.zeros(2)), 3, folder)  # type: ignore[arg-type]


def test_random_answers_are_half_right() -> None:
    pairs = [Pair(f"good {n}", f"bad {n}", f"p{n % 5}", "t") for n in range(4000)]
    random = np.random.default_rng(0)
    found = score_pairs(pairs, lambda sentences: random.random(len(sentences)))
    assert found.mean == pytest.approx(0.5, abs=0.03) and len(found.paradigms) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2, must be BLiMP as published.*no such pair"),
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
    with pytest.raises(BlimpDataError, match=message):
        read_pairs(folder)


def test_a_file_without_pairs_is_refused(folder: Path) -> None:
    (folder / "three.jsonl").write_text("\n")
    with pytest.raises(BlimpDataError) as caught:
        read_pairs(folder)
    assert str(caught.value) == (
        f"`{folder / 'three.jsonl'}` must be BLiMP as published, files *.jsonl with sentence_good, "
        "sentence_bad, UID and linguistics_term, but it holds no pair. Name the folder `data` of "
        "github.com/alexwarstadt/blimp, or the one above it."
    )


def test_another_encoding_is_told_with_its_line(folder: Path) -> None:
    with (folder / "three.jsonl").open("ab") as file:
        file.write(b"\n\xff\n")
    with pytest.raises(
        BlimpDataError, match=r"three\.jsonl`, line 3, .*it is not UTF-8: it has the byte 0xff"
    ):
        read_pairs(folder)


def test_a_sentence_may_hold_what_ends_lines_elsewhere(folder: Path) -> None:
    path = folder / "three.jsonl"
    path.write_text(path.read_text().replace("cats", "ca\u2028ts"), encoding="utf-8")
    assert "ca\u2028ts" in [pair.good for pair in read_pairs(folder)]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlimpDataError, match="it has no such file"):
        read_pairs(tmp_path)


@pytest.mark.data
def test_the_published_files_are_read(data: Path) -> None:
    pairs = read_pairs(data / "blimp")
    assert len(pairs) == 67_000
    assert len({pair.paradigm for pair in pairs}) == 67
    assert len({pair.phenomenon for pair in pairs}) == 12
    assert sum(pair.good == pair.bad for pair in pairs) == 7
    scores = score_pairs(pairs, lambda sentences: -np.array([float(len(s)) for s in sentences]))
    assert 0.3 < scores.mean < 0.7  # shorter sentences are not the better ones


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
    assert 100 * score_pairs(pairs, answers).mean == pytest.approx(69.8, abs=0.05)
