"""`inspect` and `share` from end to end."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embshare
from embshare import ShareConfig, SharePlan, plan_sharing
from embshare.cli import app
from embshare.cli.models import build_model

SAVES = pytest.mark.skipif(
    not hasattr(embshare, "save"), reason="this version writes no checkpoints"
)


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_inspect_shows_the_plan_and_the_counts() -> None:
    code, out, err = run("inspect", "embshare:conv", "--gain", "none", "--tie", "sequence:2")
    assert (code, err) == (0, "")
    plan = plan_sharing(
        build_model("embshare:conv", weights=False).model,
        ShareConfig(gain="none", tie="sequence:2"),
    )
    assert str(plan) in out
    assert "stored parameters             1,303,808     542,976   2.40" in out


def test_inspect_writes_the_plan_and_its_picture(tmp_path: Path) -> None:
    plot, file = tmp_path / "plan.png", tmp_path / "plan.json"
    code, *_ = run(
        "inspect", "embshare:lstm", "--exclude", "*_hh_*", "--plot", plot, "--json", file
    )
    assert code == 0
    plan = SharePlan.from_json(file.read_text())
    assert plan.config == ShareConfig(exclude=("*_hh_*",))
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["--plot", "--json"])
def test_a_place_that_cannot_be_written_is_said_before_any_work(
    option: str, tmp_path: Path
) -> None:
    code, out, err = run("inspect", "embshare:lstm", option, tmp_path / "absent" / "plan.png")
    assert (code, out) == (1, "")
    assert "there is no folder" in err
    code, out, err = run("inspect", "embshare:lstm", option, tmp_path)
    assert (code, out) == (1, "")
    assert "a folder. Name a file in it." in err


def test_a_wrong_suffix_of_a_picture_is_said_before_any_work(tmp_path: Path) -> None:
    code, out, err = run("inspect", "embshare:lstm", "--plot", tmp_path / "plan.gif")
    assert (code, out) == (2, "")
    assert "must end in .pdf, .png, .svg" in err


def test_inspect_counts_a_start_from_weights_too() -> None:
    code, out, _ = run("inspect", "embshare:lstm", "--init", "svd")
    assert code == 0
    assert "init='svd'" in out


def test_a_vision_model_has_no_table_unless_one_is_named() -> None:
    code, out, err = run("inspect", "torchvision:resnet18")
    assert (code, out) == (1, "")
    assert "Name an nn.Embedding or any parameter of two or more dimensions" in err
    code, out, _ = run("inspect", "torchvision:resnet18", "--source", "fc.weight")
    assert code == 0
    assert "ResNet of torchvision:resnet18, built without weights." in out


@SAVES
def test_share_saves_what_load_reads(tmp_path: Path) -> None:
    out = tmp_path / "small"
    code, printed, err = run("share", "embshare:attention", "--out", out, "--tie", "cycle:2")
    assert (code, err) == (0, "")
    assert f"Saved in {out}." in printed
    assert "start at random" in printed
    model = embshare.load(out, build_model("embshare:attention", weights=True).model)
    assert str(embshare.summarize(model)) in printed


@SAVES
def test_share_is_repeatable(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("share", "embshare:conv", "--out", tmp_path / name, "--seed", seed)[0] == 0
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@SAVES
def test_share_from_the_trained_weights(tmp_path: Path) -> None:
    code, printed, _ = run("share", "embshare:conv", "--out", tmp_path / "a", "--init", "svd")
    assert code == 0
    assert "start at random" not in printed


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_share_writes_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=50, hidden_size=16, **sizes)  # type: ignore[arg-type]
    BertForMaskedLM(config).save_pretrained(tmp_path / "dense")
    (tmp_path / "dense" / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    code, printed, err = run(
        "share", tmp_path / "dense", "--out", tmp_path / "small", "--factor", 4
    )
    assert code == 0, err
    assert {path.name for path in (tmp_path / "small").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "vocab.txt")
    }
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "small")
    assert str(embshare.summarize(model)) in printed
    assert "BertForMaskedLM.from_pretrained('small')" in (tmp_path / "small/README.md").read_text()


def test_share_refuses_a_file_as_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    code, out, err = run("share", "embshare:lstm", "--out", file)
    assert (code, out) == (1, "")
    assert "not a folder" in err


def test_share_overwrites_nothing_without_being_asked(tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code, printed, err = run("share", "embshare:lstm", "--out", out)
    assert (code, printed) == (1, "")
    assert "not empty. Name another folder, or replace files of the same names by --over" in err
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert run("share", "embshare:lstm", "--out", out, "--overwrite")[0] == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_share_of_a_hub_name_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, printed, err = run("share", "no-such-owner/no-such-model", "--out", tmp_path / "a")
    assert (code, printed) == (1, "")
    assert "error: `no-such-owner/no-such-model`: not to be had (" in err
    assert err.endswith("A folder with a config.json can be named too.\n")
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_share_of_an_unsupported_kind_loads_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ViTConfig, ViTModel

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**sizes, intermediate_size=16)).save_pretrained(tmp_path / "vit")

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(ViTModel, "from_pretrained", loaded)
    code, printed, err = run("share", tmp_path / "vit", "--out", tmp_path / "small")
    assert (code, printed) == (1, "")
    assert "error: ViTModel has no table `auto` to read weights from" in err
    assert not (tmp_path / "small").exists()


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_share_of_a_model_type_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    code, printed, err = run("share", tmp_path, "--out", tmp_path / "small")
    assert (code, printed) == (1, "")
    assert "its config.json cannot be read" in err and "nonsense" in err


@pytest.mark.filterwarnings("ignore")  # of whatever transformers has to say
def test_share_of_a_folder_of_a_newer_format(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=50, hidden_size=16, **sizes)  # type: ignore[arg-type]
    model = embshare.share_from_embedding(BertModel(config))
    model.save_pretrained(tmp_path / "newer")
    file = tmp_path / "newer" / "config.json"
    found = json.loads(file.read_text())
    found["quantization_config"]["format"] = 2
    file.write_text(json.dumps(found))
    code, printed, err = run("share", tmp_path / "newer", "--out", tmp_path / "small")
    assert (code, printed) == (1, "")
    assert "has format 2, newer than 1. Upgrade embshare." in err
    code, printed, err = run(
        "share", tmp_path / "newer", "--out", tmp_path / "small", "--no-weights"
    )
    assert code == 0, err  # the plan of the folder is not asked for
