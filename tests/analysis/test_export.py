from __future__ import annotations

import csv
import json
import math
import sys
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from helpers.journals import losses, write
from helpers.toy import InOrder, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, RunInfo, Snapshot
from mtask_sinks.analysis.export import Measurement, measurements, to_frame, write_file
from mtask_sinks.errors import ExportError, NoJournalError, NoTrainingError, OutputFileError

# Two trainings with the same name, of which the first was resumed, and values that some formats cannot store.
ROWS = [
    Measurement("r:1", "train", 2, 0.2, 1002.0, "a", "loss", 20.0, 4),
    Measurement("r:1", "train", 4, 0.4, 1004.0, "a", "loss", 80.0, 4),
    Measurement("r:2", "eval", 7, None, 7.5, "", "x", math.inf, 0),
    Measurement("r:2", "eval", 7, None, 7.5, "b", "y", math.nan, 3),
]


@pytest.fixture
def journal(tmp_path) -> Path:
    odd = Snapshot(7, "eval", {"x": math.inf, "b/y": math.nan}, time=7.5, counts={"b/y": 3})
    return write(
        tmp_path,
        (RunInfo(id="1", name="r"), losses(2, 4, 6), "killed"),
        (RunInfo(id="2", name="r2", step=2), losses(4, factor=20.0), "finished"),
        (RunInfo(id="3", name="r"), [odd], None),
    )


def same(a: object, b: object) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def assert_rows(found, expected=ROWS) -> None:
    found = [tuple(row) for row in found]
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected):
        assert all(map(same, row, wanted)), (row, wanted)


def test_rows_are_those_of_the_trainings(journal) -> None:
    assert_rows(measurements(journal))
    assert_rows(measurements(journal.parent, "1"), ROWS[:2])
    assert_rows(measurements(journal.parent, "r:2"), ROWS[2:])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_window_that_the_end_cut_short_says_so_in_every_format(tmp_path, ending) -> None:
    cut = Snapshot(24, metrics={"a/n_tokens": 1090.0}, time=24.0, counts={"a/n_tokens": 2}, is_partial=True)
    write(tmp_path, (RunInfo(id="1", name="r"), [*losses(10), cut], "finished"))
    write_file(measurements(tmp_path), tmp_path / f"m.{ending}")
    readers = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}
    frame = readers[ending](tmp_path / f"m.{ending}")
    assert list(frame["partial"]) == list(to_frame(tmp_path)["partial"]) == [False, True]
    assert str(frame["partial"].dtype) == str(to_frame(tmp_path)["partial"].dtype) == "bool"


def test_csv(journal, tmp_path) -> None:
    assert write_file(measurements(journal), tmp_path / "m.csv") == 4
    with (tmp_path / "m.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == list(Measurement._fields)
    assert rows[0] == ["r:1", "train", "2", "0.2", "1002.0", "a", "loss", "20.0", "4", "False"]
    assert rows[2] == ["r:2", "eval", "7", "", "7.5", "", "x", "inf", "0", "False"]
    frame = pd.read_csv(tmp_path / "m.csv")
    assert frame.value.dtype == "float64"
    assert frame.value.tolist()[:3] == [20.0, 80.0, math.inf]


def test_jsonl(journal, tmp_path) -> None:
    assert write_file(measurements(journal), tmp_path / "m.jsonl") == 4

    def refuse(text):
        raise AssertionError(text)

    rows = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert rows[1] == ROWS[1]._asdict()
    assert [row["value"] for row in rows] == [20.0, 80.0, "Infinity", "NaN"]
    assert rows[2]["epoch"] is None


def test_parquet(journal, tmp_path) -> None:
    from pyarrow import parquet

    assert write_file(measurements(journal), tmp_path / "m.parquet") == 4
    table = parquet.read_table(tmp_path / "m.parquet")
    assert table.column_names == list(Measurement._fields)
    assert [str(field.type) for field in table.schema][:5] == ["string", "string", "int64", "double", "double"]
    assert_rows(row.values() for row in table.to_pylist())


def test_a_frame_has_the_rows_and_types(journal) -> None:
    frame = to_frame(journal)
    assert_rows(frame.itertuples(index=False), [row._replace(epoch=row.epoch or math.nan) for row in ROWS])
    assert {name: str(frame[name].dtype) for name in ("step", "epoch", "time", "value", "count")} == {
        "step": "int64", "epoch": "float64", "time": "float64", "value": "float64", "count": "int64"
    }  # fmt: skip
    wide = to_frame(journal, "1").pivot_table(index="step", columns=["task", "name", "phase"], values="value")
    assert wide["a", "loss", "train"].to_dict() == {2: 20.0, 4: 80.0}


def test_only_a_group_of_rows_is_in_memory_as_objects_of_python(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.analysis.export._ROWS_PER_GROUP", 1_000)
    metrics = {f"a/m{n}": n + 0.5 for n in range(20)}
    write(tmp_path, (RunInfo(id="1"), [Snapshot(step, metrics=metrics, time=step) for step in range(1_000)], None))
    to_frame(tmp_path)  # imports what it needs
    for _ in range(3):  # a thread of an earlier test may need memory at the same time
        tracemalloc.start()
        frame = to_frame(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        is_small = peak < 240 * len(frame)  # 134, with pandas 2 220; with all rows as objects, it is 265 at least
        if is_small:
            break
    assert list(frame.index) == list(range(20_000))
    assert list(frame["step"]) == [step for step in range(1_000) for _ in metrics]
    assert list(frame["value"]) == [*metrics.values()] * 1_000
    assert is_small, peak


def test_a_frame_of_nothing_has_columns(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [], None))
    empty = to_frame(tmp_path)
    assert list(empty.columns) == list(Measurement._fields)
    write(tmp_path / "full", (RunInfo(id="1"), [Snapshot(1, metrics={"a/loss": 0.5})], None))
    assert dict(empty.dtypes) == dict(to_frame(tmp_path / "full").dtypes)  # so that both can be merged


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_list_of_some_rows_is_written_and_other_things_are_refused(journal, tmp_path, ending) -> None:
    rows = [row for row in measurements(journal) if row.task == "a"]
    assert 0 < len(rows) < len(ROWS)
    path = tmp_path / f"m.{ending}"
    assert write_file(rows, str(path)) == len(rows)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"of type DataFrame, and 'run' is no Measurement\. Pass measurements\(path\)"):
        write_file(to_frame(journal), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", ["xls", "csv.gz", ""])
def test_an_ending_that_is_no_format_is_refused(journal, tmp_path, ending) -> None:
    with pytest.raises(OutputFileError, match=r"is not a known format\. Use \.csv or \.jsonl or \.parquet\."):
        write_file(measurements(journal), tmp_path / f"m.{ending}")


def test_no_journal_is_overwritten(journal) -> None:
    before = journal.read_bytes()
    with pytest.raises(OutputFileError, match="is a journal"):
        write_file(measurements(journal), journal)
    assert journal.read_bytes() == before


def test_an_export_that_fails_leaves_what_was_there(journal, tmp_path) -> None:
    def failing():
        yield ROWS[0]
        raise RuntimeError("half way")

    (tmp_path / "m.csv").write_text("before")
    with pytest.raises(RuntimeError, match="half way"):
        write_file(failing(), tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "metrics.jsonl"]


def test_missing_packages_are_named_with_the_extra(journal, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    get_it = r"the package %s, which is not installed\. Run: pip install 'mtask-sinks\[export\]'$"
    with pytest.raises(ImportError, match=get_it % "pandas"):
        to_frame(journal)
    with pytest.raises(ExportError, match=get_it % "pyarrow"):
        write_file(measurements(journal), tmp_path / "m.parquet")
    assert write_file(measurements(journal), tmp_path / "m.csv") == 4


def test_what_is_not_there_is_an_error_at_once(journal, tmp_path) -> None:
    with pytest.raises(NoTrainingError, match="there is no training 'z'"):
        measurements(journal, "z")
    with pytest.raises(NoJournalError):
        measurements(tmp_path / "nowhere")


def test_a_real_training_comes_out_as_it_was_logged(tmp_path) -> None:
    class Trainer(InOrder, HfMultiTaskTrainer):
        pass

    args = arguments(tmp_path / "out", run_name="toy", eval_strategy="steps", eval_steps=2)
    trainer = Trainer(Toy(), args, train_dataset=numbers(1, 2, 3, 5), eval_dataset=numbers(4, 8))
    trainer.train()
    frame = to_frame(tmp_path / "out")
    found = list(frame[["run", "phase", "step", "task", "name", "value", "count"]].itertuples(index=False, name=None))
    assert found == [
        ("toy", "train", 2, "a", "loss", 1.5, 2),
        ("toy", "eval", 2, "a", "loss", 6.0, 2),
        ("toy", "train", 4, "a", "loss", 4.0, 2),
        ("toy", "eval", 4, "a", "loss", 6.0, 2),
        ("toy", "overall", 4, "a", "loss", 2.75, 4),
    ]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "=cmd|'/C calc'!A1"]
)
def test_no_text_of_a_csv_is_a_formula_and_numbers_stay_numbers(text: str, tmp_path) -> None:
    row = Measurement(text, text, -1, -0.5, 1.0, text, text, -2.5, 4)
    write_file(iter([row]), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        _, cells = csv.reader(file)
    assert [float(cell) for cell in (cells[2], cells[3], cells[7])] == [-1.0, -0.5, -2.5]
    for at in (0, 1, 5, 6):
        assert cells[at][0] == "'"
        assert cells[at][1:].encode().decode("unicode_escape" if text.isascii() else "utf-8") == text
    write_file(iter([row]), tmp_path / "t.jsonl")
    assert json.loads((tmp_path / "t.jsonl").read_text())["run"] == text  # for programs


def test_journals_beside_each_other_have_the_names_of_their_trainings(tmp_path) -> None:
    for file, name in (("metrics.jsonl", "A"), ("metrics-2.jsonl", "B")):
        write(tmp_path / name, (RunInfo(id=name, name=name), losses(2), "finished"))
        (tmp_path / name / "metrics.jsonl").rename(tmp_path / file)
        (tmp_path / name).rmdir()
    assert [row.run for row in measurements(tmp_path)] == ["A", "B"]
    for file in tmp_path.iterdir():
        file.write_text("")
    with pytest.raises(NoJournalError):
        list(measurements(tmp_path / "nothing"))
