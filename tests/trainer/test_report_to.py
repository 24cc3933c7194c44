from __future__ import annotations

import importlib.util
import logging

import pytest
import transformers
from helpers.event_files import read_scalars
from helpers.toy import InOrder, Toy, arguments, numbers
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import get_available_reporting_integrations

from mtask_sinks import HfMultiTaskTrainer, RunInfo
from mtask_sinks.errors import MissingBackendError, UnknownSinkError
from mtask_sinks.sinks import MemorySink, TensorBoardSink, WandbSink, lookup
from mtask_sinks.trainer.report_to import names_of, sinks_for


class InOrderTrainer(InOrder, HfMultiTaskTrainer):
    pass


def sink_names(trainer: HfMultiTaskTrainer) -> list[str]:
    return [sink.name for sink in trainer._session.delivery.sinks]


def callback_names(trainer: HfMultiTaskTrainer) -> set[str]:
    return {type(callback).__name__ for callback in trainer.callback_handler.callbacks}


@pytest.mark.parametrize(
    ("report_to", "sinks", "callbacks"),
    [
        ("none", [], set()),
        ([], [], set()),
        ("tensorboard", ["tensorboard"], {"TensorBoardCallback"}),
        (["mlflow", "tensorboard"], ["mlflow", "tensorboard"], {"MLflowCallback", "TensorBoardCallback"}),
        ("mlflow,example_lines", ["mlflow", "example_lines"], {"MLflowCallback"}),
        ("example_lines", ["example_lines"], set()),
        (["tensorboard", "tensorboard"], ["tensorboard"], {"TensorBoardCallback"}),
    ],
)
def test_names_of_ours_of_plug_ins_and_of_transformers(tmp_path, report_to, sinks, callbacks) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to=report_to))
    assert sink_names(trainer) == sinks
    assert callback_names(trainer) & {"TensorBoardCallback", "MLflowCallback", "WandbCallback"} == callbacks


def test_all_is_every_tracker_that_is_installed(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to="all"))
    installed = get_available_reporting_integrations()
    assert sink_names(trainer) == [name for name in installed if name in ("mlflow", "tensorboard", "wandb")]
    assert {"TensorBoardCallback", "MLflowCallback", "WandbCallback"} <= callback_names(trainer)


def test_names_from_a_generator() -> None:
    assert names_of(name for name in ["mlflow", "tensorboard"]) == ["mlflow", "tensorboard"]


def test_all_beside_a_plug_in() -> None:
    assert names_of(["all", "example_lines"]) == [*get_available_reporting_integrations(), "example_lines"]


def test_an_unknown_name_says_what_there_is_and_how_to_add_one(tmp_path) -> None:
    with pytest.raises(UnknownSinkError) as caught:
        HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to="tensorbord"))
    message = str(caught.value)
    assert "no 'tensorbord'" in message
    assert "Did you mean 'tensorboard'" in message
    assert all(name in message for name in ("mlflow", "wandb", "example_lines", "comet_ml", "mtask_sinks.sinks"))


def test_a_missing_package_says_which_extra(tmp_path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(lookup, "find_spec", lambda name: None if name == "wandb" else found(name))
    monkeypatch.setattr("mtask_sinks.trainer.report_to.get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(MissingBackendError, match=r"mtask-sinks\[wandb\]"):
        HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to=["wandb"]))


def test_a_tracker_that_transformers_can_serve_without_us_is_left_to_it(monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(lookup, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    assert sinks_for(["tensorboard"]) == []  # for example with tensorboardX


def test_a_remote_tensorboard_directory_is_left_to_transformers(tmp_path, monkeypatch, caplog) -> None:
    """The callback can write there, because it uses TensorBoard's own file systems."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "memory://bucket/tb")
    monkeypatch.chdir(tmp_path)
    args = arguments(tmp_path / "out", report_to="tensorboard")
    if int(transformers.__version__.partition(".")[0]) < 5:  # it knows no such variable
        args.logging_dir = "memory://bucket/tb"
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        trainer = InOrderTrainer(Toy(), args, train_dataset=numbers(1, 2, 3, 4))
        trainer.train()
    assert "memory://bucket/tb is no local directory" in caplog.text
    assert trainer.sink_counts == {}
    files = fsspec.filesystem("memory")
    (path,) = files.find("/bucket/tb")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / path.rpartition("/")[2]).write_bytes(files.cat(path))
    assert read_scalars(tmp_path / "copy")["train/a/loss"] == [(2, 1.5), (4, 3.5)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "out"]


@pytest.mark.parametrize("directory", ["gs://bucket/tb", "s3:/bucket"])
def test_our_own_sink_says_that_it_cannot_write_there(directory: str, monkeypatch) -> None:
    with pytest.raises(ValueError, match="writes to local directories only"):
        TensorBoardSink(directory)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", directory)
    with pytest.raises(ValueError, match="writes to local directories only"):
        TensorBoardSink().open(RunInfo(id="1"))


def test_sinks_given_come_first_and_stand_for_their_names(tmp_path) -> None:
    mine = TensorBoardSink(tmp_path)
    chosen = sinks_for(["tensorboard", "mlflow"], [MemorySink(), mine])
    assert [sink.name for sink in chosen] == ["memory", "tensorboard", "mlflow"]
    assert chosen[1] is mine


def test_a_broken_plug_in_is_an_error_at_construction(tmp_path) -> None:
    with pytest.raises(lookup.PluginError, match="mtask-example-plugin"):
        HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to="example_broken"))


def test_the_callback_stays_an_instance_of_its_class(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to="tensorboard"))
    assert any(type(callback) is TensorBoardCallback for callback in trainer.callback_handler.callbacks)


@pytest.mark.parametrize(("value", "disables"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_wandb_disabled_disables_the_sink_where_transformers_heeds_it(monkeypatch, value: str, disables: bool) -> None:
    monkeypatch.setenv("WANDB_DISABLED", value)
    heeds = int(transformers.__version__.partition(".")[0]) < 5
    found = sinks_for([], [WandbSink(), MemorySink()])
    assert [sink.name for sink in found] == (["memory"] if disables and heeds else ["wandb", "memory"])


@pytest.mark.parametrize("sinks", [["tensorboard"], "tensorboard", [MemorySink], MemorySink(), None])
def test_what_is_no_list_of_sinks_is_refused_with_the_way_to_pass_it(tmp_path, sinks) -> None:
    with pytest.raises(TypeError, match=r"sinks=.*: pass a list of objects .*; names go to report_to"):
        HfMultiTaskTrainer(Toy(), arguments(tmp_path), sinks=sinks)


def test_something_else_than_names_says_what_to_pass(tmp_path) -> None:
    for report_to in (3, [MemorySink()]):
        with pytest.raises(TypeError, match="report_to=.*: pass names, .* objects go to sinks"):
            HfMultiTaskTrainer(Toy(), arguments(tmp_path, report_to=report_to))
