"""Exports every value of a journal as a row, for notebooks and other programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from mtask_sinks._util.atomic_file import check_ending, whole_file
from mtask_sinks.analysis.runs import choose, labels, read_trainings
from mtask_sinks.errors import ExportError
from mtask_sinks.journal.records import as_plain

if TYPE_CHECKING:
    import pandas as pd


class Measurement(NamedTuple):
    """One row: one value of one metric in one training.

    Attributes:
        run: name of the training, with its number if several trainings have that name.
        phase, step, epoch, time: where and when it was logged; ``time`` in seconds since 1970 (UTC).
        task, name: task and name of the metric; an ungrouped metric has an empty task.
        value: the reduced value.
        count: how many reports the value is made of.
    """

    run: str
    phase: str
    step: int
    epoch: float | None
    time: float
    task: str
    name: str
    value: float
    count: int  # type: ignore[assignment]  # hides tuple.count


def to_frame(path: str | os.PathLike[str], run: str | None = None) -> pd.DataFrame:
    """Read a journal into a pandas data frame in long format: one row per value.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5, "nsp/loss": 0.7}, counts={"mlm/loss": 8}))
    >>> journal.close()
    >>> frame = to_frame(directory)
    >>> frame[["run", "phase", "step", "task", "name", "value", "count"]]
        run  phase  step task  name  value  count
    0  bert  train    10  mlm  loss    2.5      8
    1  bert  train    10  nsp  loss    0.7      0

    One column per metric: ``frame.pivot_table(index="step", columns=["task", "name", "phase"], values="value")``.

    The columns are those of `Measurement`; an unknown epoch is NaN.

    Args:
        path: the journal, or the output directory of a training.
        run: number or name of one of its trainings; by default all. A resumed training is one training.

    Raises:
        ImportError: pandas is not installed.
        NoJournalError: there is no such journal.
        NoTrainingError: the journal has no such training.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("to_frame needs pandas, which is not installed: pip install 'mtask-sinks[export]'.") from None
    columns = _columns(measurements(path, run))
    types = {"step": "int64", "epoch": "float64", "time": "float64", "value": "float64", "count": "int64"}
    return pd.DataFrame(columns).astype(types)


def measurements(path: str | os.PathLike[str], run: str | None = None) -> Iterator[Measurement]:
    """Return the rows of a journal, training by training, in the order of the snapshots.

    Args:
        path, run: as in `to_frame`.

    Raises:
        NoJournalError, NoTrainingError: as in `to_frame`, and at once, before the first row.
    """
    trainings = read_trainings(path)
    called = labels(trainings)
    chosen = trainings if run is None else [choose(trainings, run, os.fspath(path))]
    return (Measurement(called[training.number], *point) for training in chosen for point in training.points())


def write_file(rows: Iterator[Measurement], path: Path) -> int:
    """Write rows to ``.csv``, ``.jsonl`` or ``.parquet``; return their number. The file appears once it is complete.

    Raises:
        ExportError: a package is not installed.
        OutputFileError: the file has another ending, or is a journal.
        OSError: the file cannot be written.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    writer = writers[check_ending(path, list(writers))]
    with whole_file(path) as new:
        return writer(rows, new)


def write_csv(rows: Iterator[Measurement], file: TextIO) -> int:
    """Write rows as CSV with a heading; return their number. NaN is ``nan``, an unknown epoch is empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Measurement._fields)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _write_csv(rows: Iterator[Measurement], path: Path) -> int:
    with path.open("w", newline="", encoding="utf-8") as file:
        return write_csv(rows, file)


def _write_jsonl(rows: Iterator[Measurement], path: Path) -> int:
    """Write one JSON object per line. NaN and infinity are strings, as in the journal, so each line is valid JSON."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(as_plain(row._asdict()), allow_nan=False, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterator[Measurement], path: Path) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ExportError("Parquet needs pyarrow, which is not installed: pip install 'mtask-sinks[export]'.") from None
    kinds = {"run": pa.string(), "phase": pa.string(), "task": pa.string(), "name": pa.string()}
    kinds |= {"step": pa.int64(), "count": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in Measurement._fields])
    table = pa.table(_columns(rows), schema=schema)
    parquet.write_table(table, path)
    return int(table.num_rows)


def _columns(rows: Iterator[Measurement]) -> dict[str, Sequence[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in Measurement._fields}
    lists = list(columns.values())
    for row in rows:
        for values, value in zip(lists, row, strict=True):
            values.append(value)
    return dict(columns)
