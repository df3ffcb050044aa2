"""What embshare does in packages that are imported before it, after it, or never."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

import embshare
from embshare.integrations import INTEGRATIONS, watch

INTEGRATION = """
import sys
introduced, attached = [], []

def attach(model):
    attached.append(model)

def detach(model):
    attached.remove(model)

def introduce():
    introduced.append(sys.modules["{package}"].ready)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of one module that says when it is ready, and an integration for it."""
    package = f"watched_{tmp_path.name}"
    (tmp_path / f"{package}.py").write_text("ready = False\nprepared = True\nready = True\n")
    (tmp_path / f"{package}_integration.py").write_text(INTEGRATION.format(package=package))
    monkeypatch.syspath_prepend(tmp_path)
    found = list(sys.meta_path)
    yield package
    sys.meta_path[:] = found
    for name in (package, f"{package}_integration"):
        sys.modules.pop(name, None)


def introduced(package: str) -> list[bool]:
    """What an integration noted, or nothing where it was not imported."""
    integration = sys.modules.get(f"{package}_integration")
    return [] if integration is None else integration.introduced


def test_a_package_that_is_there_is_met_at_once(place: str) -> None:
    __import__(place)
    watch({place: f"{place}_integration"})
    assert introduced(place) == [True]


def test_a_package_that_comes_later_is_met_when_it_is_ready(place: str) -> None:
    watch({place: f"{place}_integration"})
    assert place not in sys.modules and introduced(place) == []
    package = __import__(place)
    assert introduced(place) == [True]
    __import__(place)
    assert introduced(place) == [True]
    assert "prepared" in inspect.getsource(package)  # its loader is its own


def test_a_package_that_is_absent_stays_absent(place: str) -> None:
    watch({"no_such_package_anywhere": f"{place}_integration"})
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        __import__("no_such_package_anywhere")
    assert introduced(place) == []


def test_a_package_that_fails_may_be_imported_again(place: str, tmp_path: Path) -> None:
    source = (tmp_path / f"{place}.py").read_text()
    (tmp_path / f"{place}.py").write_text("raise RuntimeError('half installed')")
    watch({place: f"{place}_integration"})
    with pytest.raises(RuntimeError, match="half installed"):
        __import__(place)
    (tmp_path / f"{place}.py").write_text(source + "# another size, another file\n")
    __import__(place)
    assert introduced(place) == [True]


def test_models_are_shown_to_a_integration_whose_package_is_there(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embshare.integrations.INTEGRATIONS", {place: f"{place}_integration"})
    model = nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 4))
    embshare.share_from_embedding(model, inplace=False)
    assert f"{place}_integration" not in sys.modules
    __import__(place)
    shared = embshare.share_from_embedding(model)
    integration = sys.modules[f"{place}_integration"]
    assert integration.attached == [shared]
    embshare.materialize(shared, inplace=True)
    assert integration.attached == []


def test_integrations_are_modules_of_adapters() -> None:
    assert all(place.startswith("embshare.adapters.") for place in INTEGRATIONS.values())
