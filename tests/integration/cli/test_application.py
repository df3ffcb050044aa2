"""The application: help, errors, exit codes, and what is imported when."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import embshare
from embshare.cli import app
from embshare.cli.application import COMMANDS, Commands, Entry
from embshare.tasks.catalogue import TASKS

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, ANSI.sub("", result.stdout), ANSI.sub("", result.stderr)


def test_help_lists_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name, summary in Commands().summaries().items():
        assert re.search(rf"^\W*{name} +{re.escape(summary)}", out, re.MULTILINE)


def test_the_summaries_are_the_first_lines_of_the_commands() -> None:
    for name, summary in Commands().summaries().items():
        first, _, _ = Commands().load(name).help.partition("\n\n")
        assert " ".join(first.split()) == summary


def test_every_place_of_a_command_is_there() -> None:
    assert all(entry.place.startswith("embshare.cli.") for entry in COMMANDS.values())
    for name in Commands().summaries():
        code, out, err = run(name, "--help")
        assert (code, err) == (0, "")
        assert name in out


def test_every_field_of_the_config_is_in_the_help() -> None:
    for command in ("inspect", "share"):
        _, out, _ = run(command, "--help")
        for field in embshare.ShareConfig.model_fields:
            assert f"--{field.replace('_', '-')}" in out


def test_a_module_that_is_not_there_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {**COMMANDS, "later": Entry("embshare.cli.not_written_yet:later", "Not yet.")}
    monkeypatch.setattr("embshare.cli.application.COMMANDS", places)
    assert "later" not in run("--help")[1]
    code, _, err = run("later")
    assert code == 2
    assert "No such command 'later'" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspekt"], "No such command 'inspekt'"),
        (["inspect"], "Missing argument"),
        (["share", "embshare:lstm"], "Missing option '--out'"),
        (["inspect", "embshare:lstm", "--factor", "many"], "Invalid value for '--factor'"),
        (["inspect", "embshare:lstm", "--ties", "all"], "No such option: --ties"),
        (["inspect", "embshare:lstm", "--tie", "some"], "`tie`: must be 'none', 'all'"),
        (["inspect", "embshare:lstm", "--gain", "big"], "`gain`: Input should be 'match'"),
        (["inspect", "embshare:lstm", "--factor", "0"], "greater than or equal to 1, but is 0"),
        (["inspect", "embshare:lstm", "--factor-norm"], "`factor_norm` needs a `factor`"),
        (["inspect", "embshare:lstm", "--source", "a", "--source", "b"], "must be one NAME"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--exclude", "haed.*"], "error: `exclude` pattern 'haed.*' matches no parameter"),
        (["--source", "tabel"], "error: MatchedLanguageModel has no table `tabel`"),
        (["--method", "eps", "--tie", "none"], "use method='veps'"),
        (["--factor", "4096"], "at least factor=4096 wide"),
    ],
)
def test_an_error_is_one_message_and_exit_code_1(arguments: list[str], says: str) -> None:
    code, out, err = run("inspect", "embshare:lstm", *arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


HEAVY = {"transformers", "torchvision", "timm", "matplotlib", "accelerate", "datasets", "yaml"}


def imported_by_help(*command: str) -> set[str]:
    """Top-level packages that are there after ``embshare COMMAND --help`` in a new process."""
    code = (
        "import sys; from typer.testing import CliRunner; from embshare.cli import app\n"
        f"assert CliRunner().invoke(app, {[*command, '--help']}).exit_code == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


@pytest.mark.parametrize("command", [[], ["bench"], ["train"], ["train", "glue"], ["elastic"]])
def test_help_imports_nothing_that_a_command_needs(command: list[str]) -> None:
    assert imported_by_help(*command) & HEAVY == set()


@pytest.mark.parametrize("command", [[], ["train"], *(["train", task] for task in TASKS)])
def test_help_does_not_import_torch(command: list[str]) -> None:
    assert "torch" not in imported_by_help(*command)


def test_as_a_module_from_another_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "embshare", "inspect", "embshare:nothing"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: `embshare:nothing`: there is no such model. "
        "There are `lstm`, `conv`, `attention`.\n"
    )
