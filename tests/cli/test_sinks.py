from __future__ import annotations

import json
from importlib.metadata import entry_points

from typer.testing import CliRunner

from mtask_sinks.cli import app
from mtask_sinks.sinks import make_sink


def run(*arguments: str, **environment: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


def test_the_list_is_plain_columns_in_a_pipe() -> None:
    done = run("sinks")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].split() == ["sink", "from", "installed", "how", "to", "get", "it"]
    assert [line.split()[0] for line in lines[1:4]] == ["mlflow", "tensorboard", "wandb"]
    assert next(line for line in lines if line.startswith("kubeflow")).split()[:3] == ["kubeflow", "transformers", "-"]
    assert "\x1b" not in done.output


def test_json_has_what_the_table_has() -> None:
    (known,) = json.loads(run("sinks", "mlflow", "--json").output)
    assert (known["name"], known["kind"], known["package"], known["is_installed"]) == ("mlflow", "sink", "mlflow", True)
    assert "is_ready" not in known


def test_the_check_exits_with_what_it_found(tmp_path) -> None:
    done = run("sinks", "--check", "tensorboard", "--output_dir", str(tmp_path))
    assert (done.exit_code, done.output.splitlines()[1].split()[3:5]) == (0, ["yes", str(tmp_path)])
    (tmp_path / "out").write_text("in the way")
    done = run("sinks", "--check", "tensorboard", "--output_dir", str(tmp_path / "out"), "--json")
    assert done.exit_code == 1
    assert json.loads(done.output)[0]["is_ready"] is False


def test_one_that_is_named_and_not_installed_fails_the_check(monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.sinks.listing.find_spec", lambda module: None)
    assert run("sinks", "--check", "comet_ml").exit_code == 1
    assert run("sinks", "comet_ml").exit_code == 0


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    done = run("sinks", "mlfow")
    assert done.exit_code == 2
    assert "there is no sink 'mlfow'. Did you mean 'mlflow'?" in done.output


def test_a_plugin_is_loaded_only_if_it_is_named(monkeypatch, tmp_path) -> None:
    loaded: list[str] = []
    # Their class: that of the standard library, or of importlib_metadata, once some package has imported it.
    (kind,) = {type(each) for each in entry_points(group="mtask_sinks.sinks")}
    load = kind.load
    monkeypatch.setattr(kind, "load", lambda self: (loaded.append(self.name), load(self))[1])
    monkeypatch.setattr("mtask_sinks.sinks.health._check", lambda name, run, seconds, answers: make_sink(name))
    run("sinks")
    run("sinks", "--check", "--output_dir", str(tmp_path))
    assert {"tensorboard", "mlflow", "wandb"} >= set(loaded)
    run("sinks", "--check", "example_lines")
    assert "example_lines" in loaded


def test_no_torch(without_torch) -> None:
    without_torch("sinks", "--check")


def test_a_time_without_end_is_no_number_of_seconds(tmp_path) -> None:
    for command in (["sinks", "--check", "tensorboard"], ["doctor", str(tmp_path), "--check"]):
        done = run(*command, "--timeout", "inf")
        assert (done.exit_code, "--timeout" in done.output) == (2, True)
