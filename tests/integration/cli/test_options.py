"""Options are the fields of configs: none is missing, none is said twice."""

import inspect
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
import typer
from pydantic import ConfigDict
from typer.testing import CliRunner

from embshare import ShareConfig
from embshare._value import Value
from embshare.cli.application import command_of
from embshare.cli.bench import bench
from embshare.cli.elastic import elastic
from embshare.cli.inspecting import inspect_model
from embshare.cli.options import SHARING, Fields, flags_of, with_options
from embshare.cli.sharing import share_model
from embshare.cli.train import _parts
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS


class Recipe(Value):
    """A config with a field of every kind."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    dish: Literal["soup", "stew"] = "soup"
    """Kind of dish."""
    portions: int | None = None
    """Number of plates;
    ``None``: one for each guest."""
    salt: float = 0.5
    """Grams of `salt`."""
    hot: bool = True
    """Serve at once."""
    book: Path | None = None
    """File of the original."""
    herbs: tuple[str, ...] = ("dill",)
    """Herbs that are added last."""
    times: tuple[Annotated[float, "minutes"], Annotated[float, "minutes"]] = (10.0, 20.0)
    """Minutes of frying and of boiling."""
    stock: str | dict[str, str] = "auto"
    """Name of a stock, for all or by guests."""


@with_options({"recipe": Fields(Recipe, flags_of(Recipe), defaults=Recipe())})
def cook(kitchen: str, *, recipe: dict[str, Any]) -> None:
    """Cook a dish."""
    typer.echo((kitchen, recipe))


def run(*words: str) -> str:
    """What `cook` prints."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(cook)
    result = CliRunner().invoke(app, list(words), catch_exceptions=False, env={"COLUMNS": "250"})
    return result.output


def helps(fields: Fields) -> dict[str, str]:
    """The help of each option by its field."""
    return {p.name[1:].lstrip("_"): get_args(p.annotation)[1].help for p in fields.parameters("_")}


def test_a_command_gets_what_was_given_and_nothing_else() -> None:
    assert run("home") == "('home', {})\n"
    words = "home --dish stew --portions 4 --salt 1 --no-hot --book b --herbs a --herbs c"
    words += " --times 1 --times 2.5 --stock meat"
    given: dict[str, Any] = {
        "dish": "stew",
        "portions": 4,
        "salt": 1.0,
        "hot": False,
        "book": Path("b"),
    }
    given |= {"herbs": ("a", "c"), "times": (1.0, 2.5), "stock": "meat"}
    assert run(*words.split()) == f"{('home', given)}\n"
    assert Recipe(**given).times == (1.0, 2.5)


def test_the_help_is_the_docstring_the_choices_and_the_default() -> None:
    assert helps(Fields(Recipe, flags_of(Recipe), defaults=Recipe())) == {
        "dish": "Kind of dish. One of soup, stew. Default: soup.",
        "portions": "Number of plates; default: one for each guest.",
        "salt": "Grams of salt. Default: 0.5.",
        "hot": "Serve at once. Default: yes.",
        "book": "File of the original.",
        "herbs": "Herbs that are added last. Repeatable. Default: dill.",
        "times": "Minutes of frying and of boiling. Repeatable. Default: 10.0, 20.0.",
        "stock": "Name of a stock, for all or by guests. Default: auto.",
    }
    assert "Default" not in "".join(helps(Fields(Recipe, flags_of(Recipe))).values())
    out = run("--help")
    assert "Cook a dish." in out
    assert "--hot" in out and "--no-hot" in out


@pytest.mark.parametrize("option", ["--portions", "--salt", "--times"])
def test_a_wrong_kind_of_value_names_the_option(option: str) -> None:
    assert f"Invalid value for '{option}': " in run("home", option, "many")


def test_flags_have_a_prefix_and_leave_fields_out() -> None:
    flags = flags_of(ShareConfig, prefix="share_", without={"method"})
    assert flags["residual_rank"] == ["--share-residual-rank"]
    assert set(flags) == set(ShareConfig.model_fields) - {"method"}


@pytest.mark.parametrize("command", [inspect_model, share_model])
def test_every_field_is_an_option_and_every_other_parameter_is_the_command_s(command: Any) -> None:
    names = list(inspect.signature(command).parameters)
    fields = [f"sharing_{name}" for name in ShareConfig.model_fields]
    assert names[-len(fields) :] == fields
    assert not {"sharing", *fields} & set(names[: -len(fields)])


@pytest.mark.parametrize("field", list(ShareConfig.model_fields))
def test_every_field_of_sharing_has_its_docstring(field: str) -> None:
    text = helps(SHARING)[field].partition(" Default:")[0].partition(" One of")[0]
    assert len(text) > len("Its docstring.")


@pytest.mark.parametrize("task", TASKS)
def test_every_option_of_a_task_is_documented(task: str) -> None:
    for fields in _parts(TASKS[task].settings_class()).values():
        for name, text in helps(fields).items():
            assert not re.match(r"Default: |One of|Repeatable|$", text), name


@pytest.mark.parametrize("command", [bench, elastic, inspect_model, share_model])
def test_a_flag_belongs_to_one_option(command: Any) -> None:
    options = command_of("it", command).params
    flags = [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (["auto"], "auto"),
        (["embed.weight"], "embed.weight"),
        (["a.*=one", "b.*=two"], {"a.*": "one", "b.*": "two"}),
        (["*=one"], {"*": "one"}),
    ],
)
def test_a_source_is_a_name_or_a_mapping(given: list[str], source: object) -> None:
    asked = {f"sharing_{name}": None for name in ShareConfig.model_fields}
    found = SHARING.take("sharing", {**asked, "sharing_source": given})
    assert ShareConfig(**found).source == source


@pytest.mark.parametrize("given", [["a", "b"], ["a.*=one", "two"], ["=one"], ["a.*="]])
def test_a_source_that_is_neither_is_refused(given: list[str]) -> None:
    asked = {f"sharing_{name}": None for name in ShareConfig.model_fields}
    with pytest.raises(InvalidValueError, match="must be one NAME, or GLOB=NAME several times"):
        SHARING.take("sharing", {**asked, "sharing_source": given})
