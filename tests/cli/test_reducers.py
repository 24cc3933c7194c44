from __future__ import annotations

import json
from importlib.metadata import entry_points

from typer.testing import CliRunner

from mtask_sinks.cli import app


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_reducers_are_listed() -> None:
    done = run("reducers")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[1].split()[:3] == ["mean", "mtask-sinks", "Weighted"]
    # Other tests of this process may have registered longer names, which make the first column wider.
    assert ["example_gmean", "mtask-example-plugin"] in [line.split()[:2] for line in lines]
    assert [each["name"] for each in json.loads(run("reducers", "--json").output)][:2] == ["mean", "sum"]


def test_a_package_is_loaded_only_if_its_reducer_is_named(monkeypatch) -> None:
    loaded: list[str] = []
    # Their class: that of the standard library, or of importlib_metadata, once some package has imported it.
    (kind,) = {type(each) for each in entry_points(group="mtask_sinks.reducers")}
    load = kind.load
    monkeypatch.setattr(kind, "load", lambda self: (loaded.append(self.name), load(self))[1])
    monkeypatch.setattr("mtask_sinks.reducers.lookup._registered", {})
    run("reducers")
    assert not loaded
    assert "Computes exp of the weighted mean of logarithms." in run("reducers", "example_gmean").output
    assert loaded == ["example_gmean"]
    assert run("reducers", "example_gmeen").exit_code == 2


def test_no_torch(without_torch) -> None:
    without_torch("reducers")
