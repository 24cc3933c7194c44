"""What a user sees of a training in MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from helpers.mlflow_server import mlflow_server
from helpers.two_tasks import POINTS, train_two_tasks
from mlflow import MlflowClient

from mtask_sinks import SinkArguments


@pytest.fixture(scope="module")
def run_page(tmp_path_factory, _empty_mlflow_store: Path) -> Iterator[str]:
    """Start a server and return the address of the page of a training's run."""
    directory = tmp_path_factory.mktemp("mlflow-ui")
    with mlflow_server(directory, _empty_mlflow_store) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.setenv(name, "")  # the training sets these for the process
        patch.setenv("MLFLOW_EXPERIMENT_ID", "")  # MLflow also sets a variable, for the experiment of its next runs
        patch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        settings = SinkArguments(mlflow_tracking_uri=server.store, mlflow_experiment="tasks")
        train_two_tasks(directory / "out", "mlflow", settings)
        mlflow.set_tracking_uri(None)
        client = MlflowClient(server.store)
        experiment = client.get_experiment_by_name("tasks").experiment_id
        (run,) = client.search_runs([experiment])
        server.start()
        yield f"{server.uri}/#/experiments/{experiment}/runs/{run.info.run_id}"


def test_each_task_and_phase_has_a_group_of_charts(browser, run_page: str) -> None:
    browser.open(f"{run_page}/model-metrics")
    legends = [f"two-tasks (mlm/eval/{name})" for name in ("loss", "size")]  # of the group that is open at the start
    text = browser.wait_for(lambda page: text if all(legend in (text := page.text()) for legend in legends) else "")
    groups = dict(re.findall(r"^(\S+/\S+)\n\((\d+)\)$", text, re.MULTILINE))
    assert groups == {
        **{f"{task}/{phase}": str(len(names)) for (task, phase), names in POINTS.items()},
        "mlm/overall": "2",
        "nsp/overall": "1",
    }


def test_the_last_value_of_each_metric_is_shown(browser, run_page: str) -> None:
    browser.open("about:blank")
    browser.open(run_page)
    text = browser.wait_for(lambda page: text if "nsp/train/loss" in (text := page.text()) else "")
    shown = dict(re.findall(r"^(\w+/\w+/\w+)\s+(\S+)$", text, re.MULTILINE))
    expected = {
        f"{task}/{phase}/{name}": points[-1][1]
        for (task, phase), names in POINTS.items()
        for name, points in names.items()
    }
    # Over the whole training: the means of the two windows.
    expected |= {"mlm/overall/loss": 2.5, "mlm/overall/size": 5.0, "nsp/overall/loss": 25.0}
    assert {name: float(value) for name, value in shown.items()} == expected
