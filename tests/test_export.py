"""``mtask_sinks.export`` is public, and stays importable when internal modules move."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.journals import losses, write

import mtask_sinks.export
from mtask_sinks import RunInfo
from mtask_sinks.errors import NoTrainingError

_STEPS = {"first": (2, 4), "second": (6, 8, 10)}


def test_all_its_names_export_a_journal(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), "finished"))
    rows = list(mtask_sinks.export.measurements(path))
    assert rows[0] == mtask_sinks.export.Measurement("r", "train", 2, 0.2, 1002.0, "a", "loss", 20.0, 4)
    assert mtask_sinks.export.to_frame(path)["value"].tolist() == [20.0, 40.0]
    assert mtask_sinks.export.write_file(iter(rows), tmp_path / "m.csv") == 2
    with (tmp_path / "again.csv").open("w") as file:
        assert mtask_sinks.export.write_csv(iter(rows), file) == 2
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "m.csv").read_text()


@pytest.mark.parametrize("run", [2, "2", "second"])
def test_a_training_is_chosen_by_number_or_name(run, tmp_path) -> None:
    first, second = ((RunInfo(id=name, name=name), losses(*steps), "finished") for name, steps in _STEPS.items())
    path = write(tmp_path, first, second)
    assert mtask_sinks.export.to_frame(path, run)["step"].tolist() == [6, 8, 10]


def test_no_two_trainings_share_a_name_in_the_frame(tmp_path) -> None:
    runs = [(RunInfo(id=str(i), name=name), losses(2 * i), "finished") for i, name in enumerate(("a", "a", "a:1"), 1)]
    frame = mtask_sinks.export.to_frame(write(tmp_path, *runs))
    assert frame.groupby("run")["step"].apply(list).to_dict() == {"a:1": [2], "a:2": [4], "a:1:3": [6]}


@pytest.mark.parametrize("run", [0, 3, -1])
def test_a_number_that_no_training_has_is_an_error(run, tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1", name="first"), losses(2), "finished"))
    with pytest.raises(NoTrainingError, match=f"there is no training '{run}'"):
        mtask_sinks.export.to_frame(path, run)


def test_a_missing_package_raises_its_error(tmp_path, monkeypatch) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(2), "finished"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(mtask_sinks.export.ExportError, match="pyarrow"):
        mtask_sinks.export.write_file(mtask_sinks.export.measurements(path), tmp_path / "m.parquet")


def test_its_import_needs_neither_torch_nor_pandas() -> None:
    code = "import sys, mtask_sinks.export; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
