"""Names in any script, in the real backends: each stores what a valid key says, unchanged."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from helpers.event_files import read_scalars
from helpers.wandb_file import read_runs
from mlflow import MlflowClient

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.keys import MAX_KEY_LENGTH, backend_name, check_key
from mtask_sinks.sinks import MLflowSink, TensorBoardSink, WandbSink

KEYS = [
    "ner/f1.猫",
    "ü/é",
    "имя/потеря",
    "ner/٣",
    "x²",
    "ａ/ｂ",
    "İ/ı",
    "t/" + "猫" * 80,
    "ner/f1.U+1F600".replace("+", "_"),
]
SNAPSHOT = Snapshot(step=3, metrics={check_key(key): float(number) for number, key in enumerate(KEYS)})
EXPECTED = {backend_name(key, "train"): float(number) for number, key in enumerate(KEYS)}


def write(sink, run: RunInfo) -> None:
    sink.open(run)
    sink.write(SNAPSHOT)
    sink.close("finished")


def test_the_names_in_backends_are_valid_too() -> None:
    assert all(check_key(name) == name and len(name.encode()) <= MAX_KEY_LENGTH for name in EXPECTED)
    assert len(EXPECTED) == len(KEYS)


def test_tensorboard(tmp_path: Path) -> None:
    write(TensorBoardSink(), RunInfo(id="1", output_dir=str(tmp_path)))
    (directory,) = {path.parent for path in tmp_path.rglob("*tfevents*")}
    assert read_scalars(directory) == {name: [(3, value)] for name, value in EXPECTED.items()}


@pytest.mark.parametrize("layout", ["overlay"])
def test_tensorboard_with_a_directory_per_task(tmp_path: Path, layout) -> None:
    write(TensorBoardSink(layout=layout), RunInfo(id="1", output_dir=str(tmp_path)))
    found = [
        value for path in {p.parent for p in tmp_path.rglob("*tfevents*")} for value in read_scalars(path).values()
    ]
    assert sorted(value for ((_, value),) in found) == sorted(EXPECTED.values())


@pytest.mark.usefixtures("wandb_dir")
def test_wandb(wandb_dir: Path) -> None:
    write(WandbSink(), RunInfo(id="1"))
    (run,) = read_runs(wandb_dir)
    (row,) = run.history
    assert {name: row[name] for name in EXPECTED} == EXPECTED


@pytest.mark.usefixtures("mlflow_store")
def test_mlflow() -> None:
    write(MLflowSink(), RunInfo(id="1"))
    client = MlflowClient()
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.data.metrics == EXPECTED


def test_mlflow_in_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/runs")
    try:
        write(MLflowSink(), RunInfo(id="1"))
        client = MlflowClient()
        (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
        assert run.data.metrics == EXPECTED
    finally:
        mlflow.set_tracking_uri(None)
