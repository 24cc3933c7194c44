"""Finds sinks by name: our own, and those of the package in tests/plugin, which tox installs."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest

from mtask_sinks.errors import MissingBackendError, PluginError, UnknownSinkError
from mtask_sinks.reducers import as_reducer, known_reducers
from mtask_sinks.sinks import TensorBoardSink, has_sink, lookup, make_sink, sink_names

if "example_lines" not in sink_names():
    pytest.fail("install the plug-in for the tests: pip install tests/plugin", pytrace=False)


def test_our_sinks_and_those_of_packages_are_found_by_name() -> None:
    assert {"tensorboard", "wandb", "mlflow", "example_lines"} <= set(sink_names())
    assert has_sink("example_lines")
    assert not has_sink("comet_ml")


def test_a_sink_is_made_by_name() -> None:
    assert isinstance(make_sink("tensorboard"), TensorBoardSink)
    assert make_sink("example_lines").name == "example_lines"
    assert make_sink("example_factory").name == "example_lines"


def test_a_reducer_of_a_package_is_found_by_name() -> None:
    assert as_reducer("example_gmean").reduce([1.0, 8.0]) == pytest.approx(8**0.5)
    assert "example_gmean" in known_reducers()


@pytest.mark.parametrize("name", ["example_broken", "example_wrong"])
def test_a_broken_plug_in_is_named_with_its_package(name: str) -> None:
    with pytest.raises(PluginError, match=rf"'{name}' of package mtask-example-plugin"):
        make_sink(name)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_backend_says_which_extra_to_install(name: str, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(lookup, "find_spec", lambda module: None if module == lookup.BACKENDS[name] else found(module))
    with pytest.raises(MissingBackendError, match=rf"pip install 'mtask-sinks\[{name}\]'"):
        make_sink(name)


def test_nobody_imports_a_backend_before_it_is_used() -> None:
    import subprocess
    import sys

    code = (
        "import sys, mtask_sinks.sinks\n"
        "from mtask_sinks.sinks import TensorBoardSink, WandbSink, MLflowSink, make_sink\n"
        "TensorBoardSink(), WandbSink(), MLflowSink(), make_sink('mlflow')\n"
        "print([name for name in ('torch', 'mlflow', 'wandb', 'tensorboard', 'transformers') if name in sys.modules])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_no_other_package_takes_the_place_of_our_sinks(monkeypatch) -> None:
    found = importlib.metadata.entry_points(group=lookup.ENTRY_POINTS)
    theirs = [
        importlib.metadata.EntryPoint(name, "hostile:Sink", lookup.ENTRY_POINTS) for name in ("tensorboard", "new")
    ]
    monkeypatch.setattr(lookup, "entry_points", lambda group: [*theirs, *found, *theirs])
    assert isinstance(make_sink("tensorboard"), TensorBoardSink)
    assert has_sink("new")


def test_a_misspelled_name_says_what_there_is() -> None:
    with pytest.raises(UnknownSinkError, match="there is no sink 'tensorbord'. Did you mean 'tensorboard'"):
        make_sink("tensorbord")
