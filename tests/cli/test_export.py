from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.journals import losses, write
from typer.testing import CliRunner

from mtask_sinks import RunInfo
from mtask_sinks.cli import app


def export(*arguments: str):
    return CliRunner().invoke(app, ["export", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def journal(tmp_path) -> str:
    runs = [(RunInfo(id=str(n), name=f"r{n}"), losses(2, 4), "finished") for n in (1, 2)]
    return str(write(tmp_path, *runs))


def test_without_a_file_it_is_csv_on_standard_output(journal) -> None:
    done = export(f"{journal}:r1")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "run,phase,step,epoch,time,task,name,value,count,partial",
        "r1,train,2,0.2,1002.0,a,loss,20.0,4,False",
        "r1,train,4,0.4,1004.0,a,loss,40.0,4,False",
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_with_a_file_it_says_how_much(journal, tmp_path, ending) -> None:
    file = tmp_path / f"out.{ending}"
    assert export(journal, "-o", str(file)).output == f"{file}: 4 values\n"
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no nowhere"),
        (["{}:z"], "there is no training 'z'"),
        (["{}", "-o", "m.xls"], "the ending '.xls' is not a known format"),
        (["{}", "-o", "{}"], "is a journal"),
        (["{}", "-o", "no/such/place.csv"], "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_exported_is_refused(journal, arguments, said) -> None:
    done = export(*(argument.format(journal) for argument in arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())
    assert not done.output.startswith("run,")


def test_a_reader_that_has_enough_is_no_error_to_see(journal) -> None:
    lines = Path(journal).read_text().splitlines(keepends=True)
    Path(journal).write_text(lines[0] + lines[1] * 10_000)
    command = f"{sys.executable} -m mtask_sinks export {journal} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("run,phase")
    assert done.stderr == ""


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_no_torch(journal, tmp_path, without_torch, ending) -> None:
    without_torch("export", journal, "-o", str(tmp_path / f"o.{ending}"))
