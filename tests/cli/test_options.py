"""Options are the config's fields: none is missing, none is said twice."""

import inspect
from typing import Any, get_args

import pytest

from embshare import ShareConfig
from embshare.cli.inspecting import inspect_model
from embshare.cli.options import config_options, field_docs, option_name, with_config
from embshare.cli.sharing import share_model
from embshare.errors import InvalidValueError


def defaults() -> dict[str, Any]:
    """What a command gets where no option is given."""
    return {parameter.name: parameter.default for parameter in config_options()}


@pytest.mark.parametrize("command", [inspect_model, share_model])
def test_every_field_is_an_option_and_every_other_parameter_is_the_command_s(command: Any) -> None:
    names = list(inspect.signature(command).parameters)
    fields = list(ShareConfig.model_fields)
    assert names[-len(fields) :] == fields
    assert not {"config", *fields} & set(names[: -len(fields)])


def test_no_option_given_is_the_default_config() -> None:
    got: list[ShareConfig] = []

    @with_config
    def command(*, config: ShareConfig) -> None:
        got.append(config)

    command(**defaults())
    assert got == [ShareConfig()]


@pytest.mark.parametrize("field", list(ShareConfig.model_fields))
def test_the_help_of_an_option_is_the_field_s_docstring(field: str) -> None:
    (option,) = [p for p in config_options() if p.name == field]
    told = get_args(option.annotation)[1]
    doc = field_docs(ShareConfig)[field]
    assert doc
    assert told.help.startswith(doc)
    assert told.default.startswith(option_name(field))  # typer reads it as the name


def test_numbers_are_read_as_numbers() -> None:
    kinds = {p.name: get_args(p.annotation)[0] for p in config_options()}
    assert kinds["residual_rank"] is int
    assert kinds["factor"] == kinds["width"] == (int | None)
    assert kinds["column_bias"] is kinds["factor_norm"] is bool
    assert kinds["include"] == kinds["exclude"] == kinds["source"] == list[str]


def test_choices_are_spelled_out() -> None:
    (gain,) = [p for p in config_options() if p.name == "gain"]
    assert get_args(gain.annotation)[1].help.endswith("One of match, none, learned, channel.")


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
    got: list[ShareConfig] = []

    @with_config
    def command(*, config: ShareConfig) -> None:
        got.append(config)

    command(**defaults() | {"source": given})
    assert got[0].source == source


@pytest.mark.parametrize("given", [["a", "b"], ["a.*=one", "two"], ["=one"], ["a.*="]])
def test_a_source_that_is_neither_is_refused(given: list[str]) -> None:
    @with_config
    def command(*, config: ShareConfig) -> None:
        raise AssertionError(config)

    with pytest.raises(InvalidValueError, match="must be one NAME, or GLOB=NAME several times"):
        command(**defaults() | {"source": given})
