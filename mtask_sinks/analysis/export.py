"""Exports every value of a journal as a row, for notebooks and other programs."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mtask_sinks._util.atomic_file import check_ending, whole_file
from mtask_sinks._util.escaping import printable, printable_json
from mtask_sinks._util.formatting import short
from mtask_sinks.analysis.choice import labels
from mtask_sinks.analysis.counted import CountedJournal, choose_counted, read_counted
from mtask_sinks.analysis.find import FoundJournal, find_readable_journals
from mtask_sinks.analysis.series import Measurement
from mtask_sinks.analysis.training import Training
from mtask_sinks.errors import ExportError
from mtask_sinks.journal.paths import journal_files, journal_path
from mtask_sinks.journal.records import as_plain

if TYPE_CHECKING:
    import pandas as pd


# Spreadsheets treat a cell that begins with one of these characters as a formula. Some also do so for the wide forms of
# the characters, which East Asian texts use.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


# Rows that are in memory at a time as objects of Python. These take several times the memory of columns.
_ROWS_PER_GROUP = 100_000


def to_frame(path: str | os.PathLike[str], run: str | int | None = None) -> pd.DataFrame:
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

    For one column per metric:
    ``frame.pivot_table(index="step", columns=["task", "name", "phase"], values="value")``.

    The columns are those of `Measurement`; an unknown epoch is NaN.

    Args:
        path: the journal, or the output directory of a training, or a directory above such directories. In the last
            case, the name of a run is its path below the directory.
        run: number or name of one of its trainings; by default all. A resumed training is one training.

    Raises:
        ImportError: pandas is not installed.
        NoJournalError: there is no such journal.
        NoTrainingError: the journal has no such training, or none of its lines can be read.
        OSError: the journal cannot be read.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError(
            "to_frame needs the package pandas, which is not installed. Run: pip install 'mtask-sinks[export]'"
        ) from None
    types = {"step": "int64", "epoch": "float64", "time": "float64", "value": "float64", "count": "int64"}
    types |= {"partial": "bool", **dict.fromkeys(("run", "phase", "task", "name"), "str")}  # also without any row
    groups = [pd.DataFrame(columns).astype(types) for columns in _column_groups(measurements(path, run))]
    return pd.concat(groups, ignore_index=True) if groups else pd.DataFrame(_columns(())).astype(types)


def measurements(path: str | os.PathLike[str], run: str | int | None = None) -> Iterator[Measurement]:
    """Return the rows of a journal, training by training, in the order of the snapshots.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert")); journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.close()
    >>> [(row.run, row.phase, row.step, row.task, row.name, row.value) for row in measurements(directory)]
    [('bert', 'train', 10, 'mlm', 'loss', 2.5)]

    Args:
        path, run: as in `to_frame`.

    Raises:
        NoJournalError, NoTrainingError, OSError: as in `to_frame`. The call itself raises them, before the first row.
    """
    if run is not None:
        found = read_counted(path)  # the number of a training counts those of all journals, so all must be readable
        find_readable_journals(path)
        return _rows(_labels(found), [choose_counted(found, str(run), os.fspath(path))])
    journals = find_readable_journals(path)
    if Path(path).is_file() or journal_files(journal_path(path)):  # a journal is there, not only below it
        found = read_counted(path, only={journal.path for journal in journals})
        return _rows(_labels(found), found)
    return (row for journal in journals for row in _rows_below(journal))


def _rows_below(journal: FoundJournal) -> Iterator[Measurement]:
    """Yield the rows of a journal below a directory. Its path gives the names of its trainings."""
    found = read_counted(journal.path)
    several = len(found) > 1
    names = {each.number: f"{journal.name}:{each.number}" if several else journal.name for each, _ in found}
    return _rows(names, found)


def _labels(found: Sequence[tuple[Training, CountedJournal]]) -> dict[int, str]:
    return labels([training for training, _ in found])


def _rows(names: Mapping[int, str], trainings: Sequence[tuple[Training, CountedJournal]]) -> Iterator[Measurement]:
    for training, journal in trainings:
        yield from journal.measurements(training, names[training.number])
        journal.left_out.warn(journal.path)


def write_file(rows: Iterable[Measurement], path: str | os.PathLike[str]) -> int:
    """Write rows to ``.csv``, ``.jsonl`` or ``.parquet``; return their number. The file appears once it is complete.

    >>> import tempfile
    >>> row = Measurement("bert", "train", 10, None, 0.0, "mlm", "loss", 2.5, 8)
    >>> path = Path(tempfile.mkdtemp(), "metrics.csv")
    >>> write_file([row], path)
    1
    >>> print(path.read_text(), end="")
    run,phase,step,epoch,time,task,name,value,count,partial
    bert,train,10,,0.0,mlm,loss,2.5,8,False

    Args:
        rows: from `measurements`, all or some of them.
        path: path of the file. Its ending sets the format.

    Raises:
        TypeError: a row is no `Measurement`.
        ExportError: a package is not installed.
        OutputFileError: the file has another ending, or is a journal.
        OSError: the file cannot be written.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    path = Path(path)
    writer = writers[check_ending(path, list(writers))]
    with whole_file(path) as new:
        return writer(rows, new)


def write_csv(rows: Iterable[Measurement], file: TextIO) -> int:
    """Write rows as CSV with a heading; return their number. NaN is ``nan``, an unknown epoch is empty.

    A text that a spreadsheet would treat as a formula gets an apostrophe in front, and control characters become
    escapes. Numbers stay as they are.

    Args:
        rows: as in `write_file`.
        file: an open text file, such as ``sys.stdout``.

    Raises:
        TypeError: a row is no `Measurement`.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Measurement._fields)
    count = 0
    for row in _checked(rows):
        writer.writerow(map(_cell, row))
        count += 1
    return count


def _cell(value: Any) -> Any:
    """Return a value so that a spreadsheet or a terminal shows it and does not run it. Source: OWASP, "CSV Injection".

    >>> _cell("=1+1"), _cell("-a"), _cell("mlm"), _cell(-1.5)
    ("'=1+1", "'-a", 'mlm', -1.5)
    """
    if not isinstance(value, str):
        return value
    return ("'" if value.lstrip(" ").startswith(_FORMULAS) else "") + printable(value)


def _write_csv(rows: Iterable[Measurement], path: Path) -> int:
    with path.open("w", newline="", encoding="utf-8") as file:
        return write_csv(rows, file)


def _write_jsonl(rows: Iterable[Measurement], path: Path) -> int:
    """Write one JSON object per line. NaN and infinity are strings, as in the journal, so each line is valid JSON."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in _checked(rows):
            file.write(printable_json(json.dumps(as_plain(row._asdict()), allow_nan=False, ensure_ascii=False)) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterable[Measurement], path: Path) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ExportError(
            "Parquet needs the package pyarrow, which is not installed. Run: pip install 'mtask-sinks[export]'"
        ) from None
    kinds = {"run": pa.string(), "phase": pa.string(), "task": pa.string(), "name": pa.string()}
    kinds |= {"step": pa.int64(), "count": pa.int64(), "partial": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in Measurement._fields])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for columns in _column_groups(_checked(rows)):
            table = pa.table(columns, schema=schema)
            writer.write_table(table)
            count += len(table)
    return count


def _checked(rows: Iterable[Measurement]) -> Iterator[Measurement]:
    """Yield the rows. Raise an error for other things, such as the names of the columns of a data frame."""
    for row in rows:
        if not isinstance(row, Measurement):
            raise TypeError(
                f"the rows are of type {type(rows).__name__}, and {short(row)} is no Measurement. Pass "
                "measurements(path), or some of its rows. A data frame has methods of its own, such as "
                "frame.to_csv(path)."
            )
        yield row


def _column_groups(rows: Iterator[Measurement]) -> Iterator[dict[str, Sequence[Any]]]:
    while group := list(islice(rows, _ROWS_PER_GROUP)):
        yield _columns(group)


def _columns(rows: Iterable[Measurement]) -> dict[str, Sequence[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in Measurement._fields}
    lists = list(columns.values())
    for row in rows:
        for values, value in zip(lists, row, strict=True):
            values.append(value)
    return dict(columns)
