"""`embshare share` of trained folders: where it starts, what comes along, what is never written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
)
from typer.testing import CliRunner

import embshare
from embshare.adapters.huggingface.beside import copy_beside, model_folder
from embshare.cli import app
from embshare.tasks.text.tokenizer import TextTokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = ["the cat sat on the mat", "a dog and a cat"]


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def encoder(place: Path) -> None:
    tokenizer = TextTokenizer.learn(TEXTS, 300)
    tokenizer.save(place)
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=32, **SIZES)
    BertModel(config).save_pretrained(place)


def masked(place: Path) -> None:
    BertForMaskedLM(BertConfig(vocab_size=99, intermediate_size=32, **SIZES)).save_pretrained(place)
    (place / "vocab.txt").write_text("a\n")
    (place / "chat_template.jinja").write_text("{{ messages }}")
    (place / "additional_chat_templates").mkdir()
    (place / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")


def causal(place: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=16, n_layer=2, n_head=2)).save_pretrained(
        place
    )
    (place / "generation_config.json").write_text('{"max_new_tokens": 7}')
    (place / "spiece.model").write_bytes(b"\x00\x01")
    (place / "some_new_kind_of_processor.json").write_text("{}")


def of_images(place: Path) -> None:
    small = {**SIZES, "intermediate_size": 32}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 99, "eos_token_id": 2},
        vision_config={**small, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(place)
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor.json"):
        (place / name).write_text("{}")


FOLDERS = {"encoder": encoder, "masked": masked, "causal": causal, "images": of_images}
JUNK = ("pytorch_model.bin", "optimizer.pt", "trainer_state.json", "model.onnx", ".gitattributes")


@pytest.mark.parametrize("write", FOLDERS.values(), ids=FOLDERS)
def test_a_trained_folder_starts_from_its_weights_and_comes_out_complete(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "small"
    source.mkdir()
    write(source)
    wanted = {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()} | {
        "README.md"
    }
    for name in JUNK:
        (source / name).write_bytes(b"junk")
    code, printed, err = run("share", source, "--out", out, "--source", _table(source))
    assert code == 0, err
    assert "Start: svd (" in printed and "relative error of the fit 0." in printed
    assert "start at random" not in printed
    assert {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()} == wanted
    for name in wanted - {"README.md", "config.json", "model.safetensors"}:
        if name != "generation_config.json":
            assert (out / name).read_bytes() == (source / name).read_bytes()
    loaded = AutoModel.from_pretrained(out)
    assert embshare.summarize(loaded).fit_error is not None
    assert "Not trained yet" not in (out / "README.md").read_text()


def _table(source: Path) -> str:
    kind = json.loads((source / "config.json").read_text())["model_type"]
    return "text_model.embeddings.token_embedding" if kind == "clip" else "auto"


@pytest.mark.parametrize("option", [("--no-weights",), ("--init", "random")])
def test_a_random_start_has_to_be_asked_for(option: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    encoder(tmp_path / "source")
    code, printed, err = run("share", tmp_path / "source", "--out", tmp_path / "small", *option)
    assert code == 0, err
    assert "start at random" in printed and "Start: random" in printed


def test_a_processor_reads_what_came_along(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, ViTImageProcessor

    encoder(tmp_path)
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    assert run("share", tmp_path, "--out", tmp_path / "small")[0] == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert tokenizer(TEXTS)["input_ids"] == AutoTokenizer.from_pretrained(tmp_path)(TEXTS).input_ids
    assert AutoImageProcessor.from_pretrained(tmp_path / "small").size["height"] == 8


def same(source: Path) -> Path:
    return source


def dotted(source: Path) -> Path:
    return source / ".." / source.name


def link(source: Path) -> Path:
    (source.parent / "link").symlink_to(source, target_is_directory=True)
    return source.parent / "link"


def parent(source: Path) -> Path:
    return source.parent


def part(source: Path) -> Path:
    (source / "part").mkdir()
    (source / "part" / "file").touch()
    return source / "part"


def copy_of_links(source: Path) -> Path:
    shutil.copytree(source, source.parent / "copy", copy_function=os.symlink)
    return source.parent / "copy"


def copy_of_hard_links(source: Path) -> Path:
    shutil.copytree(source, source.parent / "copy", copy_function=os.link)
    return source.parent / "copy"


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    "place", [same, dotted, link, parent, part, copy_of_links, copy_of_hard_links]
)
def test_a_source_is_never_written_over(
    place: Callable[[Path], Path],
    overwrite: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "models" / "source"
    source.mkdir(parents=True)
    encoder(source)
    out = place(source)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    monkeypatch.setattr("embshare.cli.sharing.build_model", None)  # no work is done
    code, printed, err = run("share", source, "--out", out, *overwrite)
    assert (code, printed) == (1, "")
    assert "a source is never written over" in err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_another_folder_that_is_there_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    encoder(tmp_path / "source")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    code, _, err = run("share", tmp_path / "source", "--out", tmp_path / "other", "--overwrite")
    assert code == 0, err
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def sentence_folder(place: Path, inner: str, *, normalised: bool, pooling: str) -> None:
    """A folder as sentence-transformers writes it, now (``inner=""``) or before its version 3."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling

    trained = place.parent / "trained"
    trained.mkdir()
    encoder(trained)
    first = Transformer(str(trained), max_seq_length=5)
    modules = [first, Pooling(16, pooling_mode=pooling), Dense(16, 8)]
    modules += [Normalize()] * normalised
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    if inner:
        (place / inner).mkdir()
        for file in [*place.iterdir()]:
            if file.is_file() and file.name not in ("modules.json", "README.md"):
                if file.name != "config_sentence_transformers.json":
                    file.rename(place / inner / file.name)
        listed = json.loads((place / "modules.json").read_text())
        listed[0]["path"] = inner
        (place / "modules.json").write_text(json.dumps(listed))


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
@pytest.mark.parametrize(("normalised", "pooling"), [(True, "cls"), (False, "max")])
def test_a_folder_of_sentence_transformers_stays_one(
    inner: str, normalised: bool, pooling: str, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    from sentence_transformers import SentenceTransformer

    source, out = tmp_path / "source", tmp_path / "small"
    sentence_folder(source, inner, normalised=normalised, pooling=pooling)
    dense: Any = SentenceTransformer(str(source), device="cpu")
    code, printed, err = run("share", source, "--out", out, "--residual-rank", 16)
    assert code == 0, err
    assert "Start: svd" in printed
    shared: Any = SentenceTransformer(str(out), device="cpu")
    assert shared.max_seq_length == dense.max_seq_length == 5
    assert [str(module) for module in shared][1:] == [str(module) for module in dense][1:]
    assert [type(module) for module in shared] == [type(module) for module in dense]
    assert torch.equal(shared[2].linear.weight, dense[2].linear.weight)
    assert embshare.summarize(shared).stored_before == sum(p.numel() for p in dense.parameters())
    # Residuals of full rank leave nothing out: the same sentences have the same vectors.
    assert torch.allclose(
        shared.encode(TEXTS, convert_to_tensor=True),
        dense.encode(TEXTS, convert_to_tensor=True),
        atol=1e-4,
    )


def test_modules_outside_of_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    source, secret = tmp_path / "source", tmp_path / "secret"
    source.mkdir()
    secret.mkdir()
    encoder(source)
    (secret / "config.json").write_text('{"model_type": "bert"}')
    (source / "modules.json").write_text(json.dumps([{"path": "../secret"}, {"path": 3}, {}]))
    assert model_folder(source) == source
    copy_beside(source, tmp_path / "copy")
    (source / "config.json").unlink()
    assert model_folder(source) == source
    assert not (tmp_path / "copy" / "secret").exists()


def test_what_a_model_of_the_hub_has_beside_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embshare.adapters.huggingface import export

    (tmp_path / "snapshot").mkdir()
    encoder(tmp_path / "snapshot")
    asked: list[object] = []

    def download(name: str, **patterns: object) -> str:
        asked.append(name)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = embshare.share_from_embedding(AutoModel.from_pretrained(tmp_path / "snapshot"))
    export(model, tmp_path / "out", made_from="owner/name")
    assert asked == ["owner/name"]
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_what_cannot_be_fetched_is_said_after_the_model_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embshare.adapters.huggingface import export
    from embshare.errors import CheckpointError

    def download(name: str, **patterns: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = BertConfig(vocab_size=99, intermediate_size=32, **SIZES)
    model = embshare.share_from_embedding(BertModel(config))
    with pytest.raises(CheckpointError, match="no network"):
        export(model, tmp_path / "out", made_from="owner/name")
    assert AutoModel.from_pretrained(tmp_path / "out") is not None
