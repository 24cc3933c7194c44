"""Finds sinks by name: our own, and those of the package in tests/plugin, which tox installs."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest
from typer.testing import CliRunner

from mtask_sinks.cli import app
from mtask_sinks.errors import MissingBackendError, PluginError, ReducerError, UnknownSinkError
from mtask_sinks.reducers import Max, as_reducer, known_reducers, register_reducer
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


@pytest.fixture
def stubborn(tmp_path, monkeypatch):
    """An installed package whose module ends the process, and one whose sink has no name."""
    about = tmp_path / "stubborn-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[mtask_sinks.sinks]\nexits = stubborn_exits:Sink\nnameless = stubborn_nameless:Nameless\n"
        "[mtask_sinks.reducers]\nexits = stubborn_exits:Reducer\nabsent = stubborn_absent:Reducer\n"
    )
    (tmp_path / "stubborn_exits.py").write_text("import sys\nsys.exit('no license')\n")
    (tmp_path / "stubborn_nameless.py").write_text(
        "from mtask_sinks import Sink\nclass Nameless(Sink):\n    def write(self, snapshot): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (make_sink, "exits", r"\(SystemExit: no license\)"),
        (make_sink, "nameless", "its class Nameless needs the line name = 'nameless'"),
        (as_reducer, "exits", r"\(SystemExit: no license\)"),
        (as_reducer, "absent", r"\(ModuleNotFoundError: No module named 'stubborn_absent'\)"),
    ],
)
def test_a_plug_in_that_exits_or_is_incomplete_is_named_with_its_package(make, name, reason, stubborn) -> None:
    with pytest.raises(PluginError, match=f"'{name}' of package stubborn .*{reason}"):
        make(name)


def test_the_commands_say_which_plug_in_exits(stubborn) -> None:
    shown = CliRunner().invoke(app, ["sinks", "--check", "exits"], env={"COLUMNS": "200"})
    assert (shown.exit_code, "SystemExit: no license" in shown.output) == (1, True)
    shown = CliRunner().invoke(app, ["reducers", "exits"], env={"COLUMNS": "200"})
    assert (shown.exit_code, "does not load (SystemExit: no license)" in shown.output) == (1, True)


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


def test_a_name_that_no_package_offers_says_to_install_one() -> None:
    with pytest.raises(UnknownSinkError, match="'fileline'.* If another package offers it, install that package"):
        make_sink("fileline")
    with pytest.raises(ReducerError, match="'rms' is no reducer.* or install the package that offers it"):
        as_reducer("rms")


def test_a_name_that_two_packages_offer_is_refused_and_names_both(tmp_path, monkeypatch) -> None:
    for package in ("plug_a", "plug_b"):
        about = tmp_path / package / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(
            "[mtask_sinks.sinks]\nboth = mtask_sinks:MemorySink\n[mtask_sinks.reducers]\nboth = mtask_sinks:Max\n"
        )
        monkeypatch.syspath_prepend(tmp_path / package)
    with pytest.raises(PluginError, match=r"several packages offer a sink 'both': plug_a, plug_b\. Uninstall"):
        make_sink("both")
    with pytest.raises(PluginError, match=r"several packages offer a reducer 'both': plug_a, plug_b\. Uninstall"):
        as_reducer("both")
    monkeypatch.setattr("mtask_sinks.reducers.lookup._registered", {})
    register_reducer("both", Max)
    assert as_reducer("both").reduce([1.0, 3.0]) == 3.0
