"""``embshare demo``: what it prints follows its numbers, and its picture is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embshare.cli import app, demo
from embshare.cli.demo import Trained, _bars, _parameters, _text, _verdict

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(*arguments: str) -> tuple[int, str, str]:
    env = {"COLUMNS": "140", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, ["demo", *arguments], env=env)
    return result.exit_code, ANSI.sub("", result.stdout), ANSI.sub("", result.stderr)


@pytest.mark.parametrize("installed", [True, False])
def test_three_models_are_trained_and_drawn(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setattr(demo, "find_spec", lambda name: None)
    code, out, err = run("--out", str(tmp_path / "picture"), "--steps", "10")
    assert (code, err) == (0, "")
    (picture,) = tmp_path.iterdir()
    assert picture.name == ("picture.png" if installed else "picture.txt")
    assert f"The picture is in {picture}." in out.replace("\n", " ")
    rows = re.findall(
        r"(dense|shared), width (\d+) +│ +([\d.]+) MB │ +([\d.]+) M │ +([\d.]+) M", out
    )
    sizes = {(kind, int(width)): float(size) for kind, width, size, *_ in rows}
    assert len(rows) == 3
    (dense, shared, narrow) = sizes.values()
    assert dense > 3 * shared
    assert narrow == pytest.approx(shared, rel=0.15)
    assert rows[0][3] == rows[0][4] and rows[1][3] != rows[1][4]
    if not installed:
        assert picture.read_text().count("#") > 40


def test_a_picture_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    code, _, err = run("--out", str(tmp_path / "no" / "picture.png"))
    assert code == 1 and "there is no folder" in err


def trained(name: str, loss: float, size: int) -> Trained:
    return Trained(name, 128, size, size // 4, size // 4, loss, 2.0, (9.0, loss))


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ((3.0, 3.1, 3.3), ("costs 0.100 nats per word (+10.5 % perplexity)", "0.200 nats worse")),
        ((3.0, 2.9, 2.8), ("gains 0.100 nats per word (-9.5 % perplexity)", "0.100 nats better")),
    ],
)
def test_the_words_follow_the_numbers(losses: tuple[float, ...], says: tuple[str, ...]) -> None:
    names = zip(("dense", "shared", "narrow"), losses, (4_000_000, 1_000_000, 990_000), strict=True)
    models = [trained(*each) for each in names]
    text = _verdict(models)
    assert "4.0 times smaller" in text
    assert all(part in text for part in says)
    lengths = [line.count("#") for line in _bars(models).splitlines() if "#" in line]
    assert lengths == [40, 10, 10]


def test_the_sizes_that_decide_the_narrow_model_are_those_of_models() -> None:
    train, test, words = _text()
    assert words == 2_000 and int(train.max()) == words - 1
    assert len(test) > 256 * 32
    model = demo._model(words, 56)
    assert _parameters(words, 56) == sum(parameter.numel() for parameter in model.parameters())
