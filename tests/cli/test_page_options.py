from __future__ import annotations

from pathlib import Path

import pytest
import typer
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.charts.html.rendering import GENERATOR
from mtask_sinks.cli.page_options import check_weight, open_given, output_path


def test_runs_are_opened_or_a_usage_error(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2), None))
    assert [run.label for run in open_given([str(tmp_path)])] == ["r"]
    for given, said in (("nowhere", "there is no nowhere"), (f"{tmp_path}:x", "there is no training 'x'")):
        with pytest.raises(typer.BadParameter, match=said):
            open_given([given])


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
