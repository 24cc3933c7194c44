from __future__ import annotations

from pathlib import Path

import pytest
import typer
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.charts.html.rendering import GENERATOR
from mtask_sinks.cli.page_options import check_only, check_weight, open_given, output_path, usage_errors
from mtask_sinks.errors import OutputFileError


def test_runs_are_opened_or_a_usage_error(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2), None))
    assert [run.label for run in open_given([str(tmp_path)])] == ["r"]
    for given, said in (("nowhere", "there is no nowhere"), (f"{tmp_path}:x", "there is no training 'x'")):
        with pytest.raises(typer.BadParameter, match=said):
            open_given([given])


def test_a_pattern_that_matches_no_metric_is_a_usage_error_if_there_are_metrics() -> None:
    check_only("*/loss", ["a/loss", "a/acc"])
    check_only("nix", [])  # the training has not reported any yet
    with pytest.raises(typer.BadParameter, match=r"no metric matches 'nix'. The metrics are: a/loss, a/acc\.$"):
        check_only("nix", ["a/loss", "a/acc", "a/loss"])
    with pytest.raises(typer.BadParameter, match=r"a/18, a/19, …\.$"):
        check_only("nix", [f"a/{at}" for at in range(21)])


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_a_weight_out_of_range_is_a_usage_error(weight) -> None:
    check_weight(0.0)
    with pytest.raises(typer.BadParameter, match="from 0"):
        check_weight(weight)


def test_the_default_replaces_only_a_page_of_ours(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_path(None, "plot.html") == Path("plot.html")
    Path("plot.html").write_text(GENERATOR)
    assert output_path(None, "plot.html") == Path("plot.html")
    Path("plot.html").write_text("mine")
    with pytest.raises(typer.BadParameter, match="exists and was not written by this command"):
        output_path(None, "plot.html")
    assert output_path(Path("plot.html"), "other.html") == Path("plot.html")


@pytest.mark.parametrize("error", [OutputFileError("no"), ImportError("no"), PermissionError(13, "no")])
def test_a_file_that_cannot_be_written_is_a_usage_error(error) -> None:
    with pytest.raises(typer.BadParameter, match="no"), usage_errors(Path("c.svg")):
        raise error
