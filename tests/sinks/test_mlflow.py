"""The MLflow sink with a real store (SQLite), read by MLflow's own client."""

from __future__ import annotations

import math
import random
import threading

import mlflow
import pytest
from mlflow import MlflowClient

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.errors import NoSuchRun, Rejected
from mtask_sinks.sinks import MLflowSink

pytestmark = pytest.mark.usefixtures("mlflow_store")


def runs() -> list[mlflow.entities.Run]:
    client = MlflowClient()
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def write(sink: MLflowSink, run: RunInfo, *snapshots: Snapshot, status: str = "finished") -> None:
    sink.open(run)
    for snapshot in snapshots:
        sink.write(snapshot)
    sink.close(status)  # type: ignore[arg-type]


def points(run_id: str, name: str) -> list[tuple[int, float, int]]:
    return [(metric.step, metric.value, metric.timestamp) for metric in MlflowClient().get_metric_history(run_id, name)]


def test_values_steps_and_times_are_read_back() -> None:
    snapshots = [Snapshot(step=s, metrics={"mlm/loss": s / 3}, time=1e9 + s) for s in (1, 2, 5)]
    write(MLflowSink(), RunInfo(id="1"), *snapshots)
    (run,) = runs()
    assert points(run.info.run_id, "mlm/train/loss") == [(s, s / 3, (10**9 + s) * 1000) for s in (1, 2, 5)]


def test_a_run_of_its_own_has_name_parameters_logs_and_an_end() -> None:
    params = {"learning_rate": 0.1, "label_names": None, "long": "x" * 7000, **{f"p{i}": i for i in range(150)}}
    write(
        MLflowSink(experiment="bert"),
        RunInfo(id="1", name="first", params=params),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0, "note": "text"}),
    )
    (run,) = runs()
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert MlflowClient().get_experiment(run.info.experiment_id).name == "bert"
    assert run.data.metrics == {"a/train/x": 1.0, "loss": 2.0}
    assert run.data.params == {key: str(value) for key, value in params.items() if key != "long"}
    assert mlflow.active_run() is None


def test_a_run_without_a_name_gets_one_without_a_draw_from_the_random_numbers_of_the_user(monkeypatch) -> None:
    random.seed(5)
    before = random.getstate()
    one = Snapshot(step=1, metrics={"a/x": 1.0})
    write(MLflowSink(), RunInfo(id="1", output_dir="/models/bert/"), one)
    write(MLflowSink(), RunInfo(id="2"), one)
    monkeypatch.setenv("MLFLOW_TAGS", '{"mlflow.runName": "by tag"}')
    write(MLflowSink(), RunInfo(id="3", output_dir="/models/bert/"), one)
    assert random.getstate() == before
    assert sorted(run.info.run_name for run in runs()) == ["2", "bert", "by tag"]


def test_a_run_that_nothing_is_known_of_is_a_run_of_its_own() -> None:
    write(MLflowSink(), RunInfo(), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert [(run.data.metrics, run.info.status) for run in runs()] == [({"a/train/x": 1.0}, "FINISHED")]


def test_a_failed_training_shows_as_failed() -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}), status="failed")
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_attached_it_leaves_the_run_open_and_what_others_log_to_them() -> None:
    with mlflow.start_run() as active:
        attached = {"mlflow": active.info.run_id}
        run = RunInfo(id="1", params={"p": 1}, attached=attached, logged=frozenset({"mlflow"}))
        thread = threading.Thread(
            target=write, args=(MLflowSink(), run, Snapshot(step=3, metrics={"a/x": 1.0}, logs={"loss": 2.0}))
        )
        thread.start()
        thread.join()
        assert MlflowClient().get_run(active.info.run_id).info.status == "RUNNING"
    (found,) = runs()
    assert (found.data.metrics, found.data.params, found.info.status) == ({"a/train/x": 1.0}, {}, "FINISHED")


def test_writing_twice_is_as_good_as_once() -> None:
    snapshot = Snapshot(step=1, metrics={"a/x": 1.0}, time=1e9)
    write(MLflowSink(), RunInfo(id="1"), snapshot, snapshot)
    (run,) = runs()
    assert points(run.info.run_id, "a/train/x") == [(1, 1.0, 10**12)]


def test_opened_again_it_goes_on_with_the_run_and_begins_another_for_another_id() -> None:
    sink = MLflowSink()
    write(sink, RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    write(sink, RunInfo(id="1"), Snapshot(step=1, phase="eval", metrics={"a/x": 2.0}))
    write(sink, RunInfo(id="2"), Snapshot(step=1, metrics={"a/x": 3.0}))
    assert sorted((run.data.metrics for run in runs()), key=len) == [
        {"a/train/x": 3.0},
        {"a/train/x": 1.0, "a/eval/x": 2.0},
    ]


def test_a_run_is_running_again_if_its_training_goes_on_and_not_for_an_evaluation() -> None:
    sink, found = MLflowSink(), []
    for is_training in (True, True, False):
        sink.open(RunInfo(id="1", is_training=is_training))
        sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))
        (run,) = runs()
        found.append(run.info.status)
        sink.close("finished")
    assert (found, runs()[0].info.status) == (["RUNNING", "RUNNING", "FINISHED"], "FINISHED")


def test_an_earlier_run_is_continued_as_users_know_it(monkeypatch) -> None:
    with mlflow.start_run() as earlier:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", earlier.info.run_id)
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    (run,) = runs()
    assert (run.info.run_id, run.data.metrics, run.info.status) == (earlier.info.run_id, {"a/train/x": 1.0}, "FINISHED")


def test_an_earlier_run_is_continued_by_one_training_only(monkeypatch) -> None:
    with mlflow.start_run() as earlier:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", earlier.info.run_id)
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    write(MLflowSink(), RunInfo(id="2"), Snapshot(step=1, metrics={"a/x": 2.0}))
    assert sorted(run.data.metrics["a/train/x"] for run in runs()) == [1.0, 2.0]


def test_a_continued_run_keeps_its_parameters_and_gets_the_new_ones(monkeypatch) -> None:
    with mlflow.start_run() as earlier:
        mlflow.log_params({"max_steps": 10, "seed": 0})
    monkeypatch.setenv("MLFLOW_RUN_ID", earlier.info.run_id)
    sink = MLflowSink()
    sink.open(RunInfo(id="1", params={"max_steps": 20, "seed": 0, "new": True}))
    sink.close("finished")
    (run,) = runs()
    assert run.data.params == {"max_steps": "10", "seed": "0", "new": "True"}


LOST = [Snapshot(step=s, metrics={"a/x": float(s)}, logs={"loss": 1.0}, time=100.0 + s) for s in range(1, 7)]


def test_a_resumed_run_leaves_out_the_points_that_are_there() -> None:
    with mlflow.start_run() as active:
        attached = {"mlflow": active.info.run_id}
        write(MLflowSink(), RunInfo(id="1", attached=attached), *LOST)
        again = [Snapshot(step=s, metrics={"a/x": 10.0 * s, "b/x": 1.0}, time=200.0 + s) for s in range(5, 9)]
        write(MLflowSink(), RunInfo(id="2", step=4, attached=attached), *again)
    first = [(s, float(s), (100 + s) * 1000) for s in range(1, 7)]
    assert points(active.info.run_id, "a/train/x") == [*first, (7, 70.0, 207_000), (8, 80.0, 208_000)]
    assert points(active.info.run_id, "b/train/x") == [(s, 1.0, (200 + s) * 1000) for s in range(5, 9)]


def test_a_resumed_run_of_its_own_has_the_trainers_logs_once_too(monkeypatch) -> None:
    write(MLflowSink(), RunInfo(id="1"), *LOST, status="failed")
    (run,) = runs()
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    again = [Snapshot(step=s, metrics={"a/x": float(s)}, logs={"loss": 1.0}, time=200.0 + s) for s in range(5, 9)]
    write(MLflowSink(), RunInfo(id="2", step=4), *again)
    for name in ("a/train/x", "loss"):
        assert [step for step, *_ in points(run.info.run_id, name)] == [*range(1, 9)]
    assert MlflowClient().get_run(run.info.run_id).info.status == "FINISHED"


def test_what_a_resumed_training_itself_logs_twice_at_a_step_stands_twice() -> None:
    with mlflow.start_run() as active:
        sink, run = MLflowSink(), RunInfo(id="1", step=4, attached={"mlflow": active.info.run_id})
        for time in (1.0, 2.0):
            write(sink, run, Snapshot(step=6, phase="eval", metrics={"a/x": 1.0}, time=time))
    assert points(active.info.run_id, "a/eval/x") == [(6, 1.0, 1000), (6, 1.0, 2000)]


def test_a_training_resumed_after_an_evaluation_leaves_out_the_points_that_are_there() -> None:
    with mlflow.start_run() as active:
        attached, sink = {"mlflow": active.info.run_id}, MLflowSink()
        write(MLflowSink(), RunInfo(id="1", attached=attached), *LOST)
        write(sink, RunInfo(id="2", attached=attached), Snapshot(step=0, phase="eval", metrics={"a/x": 1.0}))
        write(sink, RunInfo(id="2", step=4, attached=attached), Snapshot(step=6, metrics={"a/x": 1.0}, time=200.0))
    assert [step for step, *_ in points(active.info.run_id, "a/train/x")] == [1, 2, 3, 4, 5, 6]


def test_a_training_from_the_start_leaves_out_nothing() -> None:
    with mlflow.start_run() as active:
        for id_, time in ("1", 1.0), ("2", 2.0):
            run = RunInfo(id=id_, attached={"mlflow": active.info.run_id})
            write(MLflowSink(), run, Snapshot(step=6, metrics={"a/x": 1.0}, time=time))
    assert points(active.info.run_id, "a/train/x") == [(6, 1.0, 1000), (6, 1.0, 2000)]


def test_the_experiment_is_chosen_as_users_know_it(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-env")
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert {MlflowClient().get_experiment(run.info.experiment_id).name for run in runs()} == {"from-env"}


def test_the_experiment_that_is_active_is_the_runs_too(monkeypatch, tmp_path) -> None:
    chosen = mlflow.set_experiment("prices").experiment_id
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert MLflowSink().environment()["MLFLOW_EXPERIMENT_ID"] == chosen
    write(MLflowSink(experiment="other"), RunInfo(id="2"), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert sorted(MlflowClient().get_experiment(run.info.experiment_id).name for run in runs()) == ["other", "prices"]
    # In another store, the number would belong to any other experiment.
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    write(MLflowSink(elsewhere), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    (run,) = MlflowClient(elsewhere).search_runs(["0"])
    assert run.data.metrics == {"a/train/x": 1.0}


def test_a_run_of_mlflow_that_goes_on_after_a_failed_try_is_running_again() -> None:
    """As with ``auto_find_batch_size``: another training, in the run that the callback has opened."""
    theirs = mlflow.start_run().info.run_id
    sink = MLflowSink()
    sink.open(RunInfo(id="1", continued={"mlflow": theirs}))
    sink.close("failed")
    assert [run.info.status for run in runs()] == ["FAILED"]
    sink.open(RunInfo(id="2", continued={"mlflow": theirs}))
    assert [run.info.status for run in runs()] == ["RUNNING"]
    sink.close("finished")
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_an_experiment_that_does_not_exist_blocks_nothing(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "41")
    said: list[str] = []
    monkeypatch.setattr(
        "mtask_sinks.sinks.mlflow.logger.warning", lambda text, *values, **_: said.append(text % values)
    )
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    (run,) = runs()
    assert (run.info.experiment_id, run.data.metrics) == ("0", {"a/train/x": 1.0})
    assert len(said) == 1 and "there is no experiment '41'" in said[0]


def test_nan_is_kept_and_infinity_is_the_largest_number() -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/n": math.nan, "a/i": math.inf}))
    (run,) = runs()
    assert math.isnan(run.data.metrics["a/train/n"])
    assert run.data.metrics["a/train/i"] > 1e308


def test_more_metrics_than_one_request_takes_all_arrive() -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={f"t/k{i}": float(i) for i in range(1500)}))
    (run,) = runs()
    assert run.data.metrics == {f"t/train/k{i}": float(i) for i in range(1500)}


@pytest.mark.parametrize("phase", ["eval_a b", "eval_ä", "eval_(1)"])
def test_any_name_of_a_dataset_makes_a_name_that_mlflow_takes(phase: str) -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, phase=phase, metrics={"a/x": 1.0}))
    (run,) = runs()
    assert list(run.data.metrics.values()) == [1.0]


@pytest.mark.parametrize(("status", "shown"), [("finished", "FINISHED"), ("failed", "FAILED"), ("killed", "KILLED")])
def test_a_run_that_is_continued_is_the_sinks_to_end(status: str, shown: str) -> None:
    with mlflow.start_run() as earlier:
        run = RunInfo(id="1", params={"p": 1}, continued={"mlflow": earlier.info.run_id})
        write(MLflowSink(), run, Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0}), status=status)
    found = MlflowClient().get_run(earlier.info.run_id)
    assert (found.data.metrics, found.data.params) == ({"a/train/x": 1.0, "loss": 2.0}, {"p": "1"})
    with mlflow.start_run(run_id=earlier.info.run_id):
        write(MLflowSink(), run, status=status)
        assert MlflowClient().get_run(earlier.info.run_id).info.status == shown


def test_a_run_whose_making_was_not_answered_is_found_again(monkeypatch) -> None:
    create_run = MlflowClient.create_run

    def unanswered(self, *args, **kwargs):
        create_run(self, *args, **kwargs)
        monkeypatch.undo()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        raise ConnectionResetError

    uri = mlflow.get_tracking_uri()
    monkeypatch.setattr(MlflowClient, "create_run", unanswered)
    sink, run = MLflowSink(), RunInfo(id="1", name="r", params={"p": 1})
    with pytest.raises(ConnectionResetError):
        sink.open(run)
    write(sink, run, Snapshot(step=1, metrics={"a/x": 1.0}))
    (found,) = runs()
    assert (found.info.run_name, found.data.params, found.data.metrics) == ("r", {"p": "1"}, {"a/train/x": 1.0})


def test_an_earlier_run_stays_the_one_though_its_parameters_are_not_taken_at_first(monkeypatch) -> None:
    with mlflow.start_run() as earlier:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", earlier.info.run_id)
    log_params = MLflowSink._log_params
    answers = [ConnectionResetError(), None]

    def unsteady(self, *args):
        if (answer := answers.pop(0)) is not None:
            raise answer
        log_params(self, *args)

    monkeypatch.setattr(MLflowSink, "_log_params", unsteady)
    sink, run = MLflowSink(), RunInfo(id="1", params={"p": 1})
    with pytest.raises(ConnectionResetError):
        sink.open(run)
    write(sink, run, Snapshot(step=1, metrics={"a/x": 1.0}))
    (found,) = runs()
    assert (found.info.run_id, found.data.params) == (earlier.info.run_id, {"p": "1"})
    assert found.data.metrics == {"a/train/x": 1.0}


def test_a_run_of_its_own_heeds_the_variables_of_the_trainers_callback(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TAGS", '{"release": "2"}')
    monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", "true")
    monkeypatch.setenv("MLFLOW_MAX_LOG_PARAMS", "2")
    write(MLflowSink(), RunInfo(id="1", params={"a": {"b": {"c": 1}, "d": {}}, "e": 2}))
    (run,) = runs()
    assert run.data.params == {"a.b.c": "1", "a.d": "{}"}
    assert run.data.tags["release"] == "2"


@pytest.mark.parametrize("name", ["eval_a b(1)%", "a//b", "../x", "/abs", "a/../b", "n" * 300, "./x"])
def test_whatever_the_trainer_calls_its_logs_no_row_is_lost(name: str) -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}, logs={name: 2.0, "loss": 3.0}))
    (run,) = runs()
    assert sorted(run.data.metrics.values()) == [1.0, 2.0, 3.0]
    assert run.data.metrics["loss"] == 3.0


def test_evaluation_sets_with_names_in_other_alphabets_keep_their_losses_apart() -> None:
    logs = {"eval_训练_loss": 2.0, "eval_测试_loss": 3.0, "eval_größe_loss": 4.0}
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, logs=logs))
    (run,) = runs()
    assert run.data.metrics == logs


def test_a_metric_that_mlflow_refuses_does_not_take_the_others_with_it(monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.sinks.mlflow._log_name", lambda name: name)
    sink = MLflowSink()
    sink.open(RunInfo(id="1"))
    with pytest.raises(Rejected, match=r"MLflow refused 1 of 3 metrics: .*a//b"):
        sink.write(Snapshot(step=1, metrics={"a/x": 1.0}, logs={"a//b": 2.0, "loss": 3.0}))
    (run,) = runs()
    assert run.data.metrics == {"a/train/x": 1.0, "loss": 3.0}


def test_in_a_directory_a_name_that_is_also_a_group_is_refused_and_blocks_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    sink = MLflowSink(f"file:{tmp_path}/mlruns")
    sink.open(RunInfo(id="1"))
    for step in (1, 2, 3):
        with pytest.raises(Rejected, match=r"MLflow refused 1 of 3 metrics: .*box"):
            sink.write(Snapshot(step=step, metrics={"v/box": 1.0 * step, "v/box/l1": 2.0, "v/x": 3.0}, time=1e9 + step))
    client, run_id = MlflowClient(f"file:{tmp_path}/mlruns"), sink.target()
    for name, values in {"v/train/box": [1.0, 2.0, 3.0], "v/train/x": [3.0, 3.0, 3.0]}.items():
        history = [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        assert sorted(set(history)) == [(step, value) for step, value in zip((1, 2, 3), values)]
        assert history.count((2, values[1])) == history.count((3, values[2])) == 1


def test_in_a_directory_a_log_whose_name_is_too_long_for_a_file_has_a_similar_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    sink = MLflowSink(f"file:{tmp_path}/mlruns")
    logs = {f"eval_{'書' * 100}_{name}": value for name, value in (("loss", 2.0), ("acc", 3.0))}  # 300 bytes each
    write(sink, RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}, logs=logs))
    metrics = MlflowClient(f"file:{tmp_path}/mlruns").get_run(sink.target()).data.metrics
    assert sorted(metrics.values()) == [1.0, 2.0, 3.0]
    assert all(len(name.encode()) <= 250 for name in metrics)


def test_an_integer_beyond_all_floats_is_left_out() -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}, logs={"total": 10**400}))
    (run,) = runs()
    assert run.data.metrics == {"a/train/x": 1.0}


def test_another_process_finds_the_experiment_that_was_given(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    assert MLflowSink(experiment="mine").environment()["MLFLOW_EXPERIMENT_NAME"] == "mine"


def test_where_it_writes_can_be_told_without_secrets() -> None:
    uri = mlflow.get_tracking_uri()
    assert MLflowSink().environment() == {"MLFLOW_TRACKING_URI": uri}
    for user in ("me:secret", "me:se/cr@et", "TOKEN"):
        assert MLflowSink(f"http://{user}@127.0.0.1:5000").environment() == {
            "MLFLOW_TRACKING_URI": "http://***@127.0.0.1:5000"
        }


def test_a_parameter_that_mlflow_refuses_blocks_neither_the_others_nor_the_metrics(monkeypatch) -> None:
    said: list[str] = []  # not `caplog`, whose handler MLflow 3.1 removes when it makes a store
    monkeypatch.setattr(
        "mtask_sinks.sinks.mlflow.logger.warning", lambda text, *values, **_: said.append(text % values)
    )
    monkeypatch.setenv("MLFLOW_FLATTEN_PARAMS", "1")
    params = {"seed": 0, "label2id": {"can't": 0, "a//b": 1, "good": 2}, "rate": 0.5}
    run = RunInfo(id="1", params=params)
    write(MLflowSink(), run, Snapshot(step=1, metrics={"a/x": 1.0}))
    (found,) = runs()
    assert found.data.params == {"seed": "0", "label2id.good": "2", "rate": "0.5"}
    assert (found.data.metrics, found.info.status) == ({"a/train/x": 1.0}, "FINISHED")
    (message,) = said
    assert """MLflow refused the parameter "label2id.can't", which is left out""" in message
    continued = RunInfo(id="2", params=params, continued={"mlflow": found.info.run_id})
    write(MLflowSink(), continued, Snapshot(step=2, metrics={"a/x": 2.0}), status="failed")
    assert [run.info.status for run in runs()] == ["FAILED"]


@pytest.mark.parametrize("given", [{"tracking_uri": 5000}, {"experiment": ["prices"]}])
def test_settings_that_are_no_text_are_refused_at_once(given) -> None:
    with pytest.raises(TypeError, match=r"MLflowSink\(.*=.*\): pass a string"):
        MLflowSink(**given)


@pytest.mark.parametrize("what", ["run", "experiment", "nothing"])
def test_a_run_that_the_store_lacks_is_no_such_run_until_it_is_restored(what: str, tmp_path) -> None:
    write(MLflowSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    client = MlflowClient()
    (found,) = runs()
    run_id, experiment = found.info.run_id, found.info.experiment_id
    if what == "run":
        client.delete_run(run_id)
    elif what == "experiment":
        client.delete_experiment(experiment)
    sink = MLflowSink(f"sqlite:///{tmp_path}/other.db" if what == "nothing" else None)
    message = f"/other.db has no MLflow run {run_id}" if what == "nothing" else f"the MLflow run {run_id} is deleted"
    sink.open(RunInfo(id="1", continued={"mlflow": run_id}))
    with pytest.raises(NoSuchRun, match=message):
        sink.write(Snapshot(step=2, metrics={"a/x": 2.0}))
    with pytest.raises(NoSuchRun, match=message):
        sink.close("killed")
    if what == "nothing":
        return
    client.restore_run(run_id) if what == "run" else client.restore_experiment(experiment)
    sink.write(Snapshot(step=2, metrics={"a/x": 2.0}))
    sink.close("killed")
    assert [(step, value) for step, value, _ in points(run_id, "a/train/x")] == [(1, 1.0), (2, 2.0)]
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_run_that_was_deleted_after_its_end_is_no_such_run_when_its_training_goes_on() -> None:
    sink, run = MLflowSink(), RunInfo(id="1")
    write(sink, run, Snapshot(step=1, metrics={"a/x": 1.0}))
    MlflowClient().delete_run(sink.target())
    with pytest.raises(NoSuchRun, match=f"the MLflow run {sink.target()} is deleted"):
        sink.open(run)
    MlflowClient().restore_run(sink.target())
    sink.open(run)
    assert MlflowClient().get_run(sink.target()).info.status == "RUNNING"
