from __future__ import annotations

import json
import math
import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from helpers.event_files import read_scalars
from helpers.recipes import recipe
from helpers.toy import Silent, arguments, numbers
from helpers.two_tasks import POINTS, train_two_tasks
from transformers import HfArgumentParser, TrainingArguments

from mtask_sinks import Alert, HfMultiTaskTrainer, MetricRegistry, SinkArguments
from mtask_sinks.reducers import Mean, Sum
from mtask_sinks.sinks import TensorBoardSink

with_plain_types = recipe("command-line.md", "with_plain_types")

COMMAND = [
    *("--output_dir", "out", "--report_to", "tensorboard", "--lr_scheduler_type", "cosine", "--logging_steps", "3"),
    *("--eval_strategy", "steps", "--eval_steps", "5", "--metric_reducers", "*/n_tokens=sum", "lr_scale=last"),
    *("--metric_nonfinite", "skip", "--metric_max_keys", "7", "--tensorboard_layout", "overlay"),
]

EVERYTHING = {
    "metric_reducers": ["*/n_tokens=sum"],
    "metric_nonfinite": "skip",
    "metric_max_keys": 7,
    "tensorboard_layout": "overlay",
    "drain_seconds": 2.5,
    "journal_publish": "memory://metrics",
    "network_limits": False,
    "metric_nonfinite_rules": ["aux/*=raise"],
    "metric_spread": ["*/loss"],
    "capture": ["*loss*"],
    "loss_budget": ["mlm/loss=1", "nsp/loss=0.5"],
    "console": "dict",
    "console_metrics": ["*/loss", "*/accuracy"],
    "progress_bar_metrics": ["mlm/loss"],
    "tensorboard_log_dir": "board",
    "tensorboard_custom_scalars": False,
    "mlflow_tracking_uri": "sqlite:///m.db",
    "mlflow_experiment": "tasks",
    "wandb_project": "tasks",
    "metric_directions": ["*/bias=min", "mlm/accuracy=neither"],
    "metric_per_epoch": ["*/loss"],
    "alerts": ["*/loss nonfinite action=stop", "nsp/accuracy below=0.5 for_steps=500"],
    "task_health_every": 50,
    "task_health_losses": ["*/loss"],
    "task_health_shared": "encoder.layer.1",
}


def test_hf_argument_parser_reads_both() -> None:
    args, sink_args = HfArgumentParser((TrainingArguments, SinkArguments)).parse_args_into_dataclasses(COMMAND)
    assert (args.report_to, args.logging_steps) == (["tensorboard"], 3)
    assert sink_args == SinkArguments(["*/n_tokens=sum", "lr_scale=last"], "skip", 7, "overlay")


def test_hf_argument_parser_reads_both_from_yaml(tmp_path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "output_dir: out\nreport_to: [tensorboard, mlflow]\nmetric_reducers: ['*/n=sum']\ntensorboard_layout: overlay\n"
    )
    args, sink_args = HfArgumentParser((TrainingArguments, SinkArguments)).parse_yaml_file(str(path))
    assert args.report_to == ["tensorboard", "mlflow"]
    assert (sink_args.metric_reducers, sink_args.tensorboard_layout) == (["*/n=sum"], "overlay")


def as_command(settings: dict[str, Any]) -> list[str]:
    lists = {name: value if isinstance(value, list) else [value] for name, value in settings.items()}
    return [word for name, values in lists.items() for word in (f"--{name}", *map(str, values))]


def test_every_setting_can_be_given_on_a_command_line_and_in_yaml(tmp_path) -> None:
    assert list(EVERYTHING) == [field.name for field in fields(SinkArguments)]
    expected = SinkArguments(**EVERYTHING)
    parser = HfArgumentParser(SinkArguments)
    assert parser.parse_args_into_dataclasses(as_command(EVERYTHING)) == (expected,)
    path = tmp_path / "settings.yaml"
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in EVERYTHING.items()))
    assert parser.parse_yaml_file(str(path)) == (expected,)


def test_parser_binding_reads_every_setting_too() -> None:
    from parser_binding import BindingParser

    flags = [f"--without-{name.replace('_', '-')}" for name, value in EVERYTHING.items() if value is False]
    command = as_command({name: value for name, value in EVERYTHING.items() if value is not False}) + flags
    (parsed,) = BindingParser(SinkArguments).parse_into_dataclasses((SinkArguments,), args=command, split_classes=True)
    assert parsed == SinkArguments(**EVERYTHING)


def test_parser_binding_reads_both_as_hf_argument_parser_does() -> None:
    from parser_binding import BindingParser

    plain = with_plain_types(TrainingArguments)
    classes = (plain, SinkArguments)
    args, sink_args = BindingParser(*classes).parse_into_dataclasses(classes, args=COMMAND, split_classes=True)
    expected, expected_sinks = HfArgumentParser((TrainingArguments, SinkArguments)).parse_args_into_dataclasses(COMMAND)
    times = {"logging_dir"}  # in transformers 4 its default has the time of the call
    assert {n: v for n, v in args.to_dict().items() if n not in times} == {
        n: v for n, v in expected.to_dict().items() if n not in times
    }
    assert sink_args == expected_sinks
    assert isinstance(args, TrainingArguments)


def test_parser_binding_takes_several_names_and_merges_the_classes() -> None:
    from parser_binding import BindingParser

    classes = (with_plain_types(TrainingArguments), SinkArguments)
    command = ["--output_dir", "out", "--report_to", "tensorboard", "mlflow", "--metric_reducers", "a=sum"]
    merged = BindingParser(*classes).parse_into_dataclasses(classes, args=command)
    assert isinstance(merged, TrainingArguments) and isinstance(merged, SinkArguments)
    assert (merged.report_to, merged.reducers()) == (["tensorboard", "mlflow"], {"a": "sum"})


def test_arguments_with_plain_types_pickle_as_what_they_stand_for() -> None:
    args = with_plain_types(TrainingArguments)(output_dir="out", report_to=["tensorboard"])
    copy = pickle.loads(pickle.dumps(args))
    assert type(copy) is TrainingArguments
    assert copy.to_dict() == args.to_dict()


def test_defaults_with_plain_types_are_those_of_the_class() -> None:
    plain = with_plain_types(TrainingArguments)(output_dir="out").to_dict()
    theirs = TrainingArguments(output_dir="out").to_dict()
    assert {name for name in theirs if plain[name] != theirs[name]} <= {"logging_dir"}  # its default contains the time


def test_rules_become_reducers() -> None:
    registry = SinkArguments(["*/n=sum"], metric_max_keys=2).make_registry()
    for _ in range(2):
        registry.report_metrics("t", n=2.0, x=1.0, dropped=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"t/n": 4.0, "t/x": 1.0}
    assert registry._key_table.reducers == {"t/n": Sum(), "t/x": Mean()}


@pytest.mark.parametrize("rule", ["sum", "=sum", "a=", "", "*/n=sum,*/m=max"])
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="KEY=REDUCER"):
        SinkArguments([rule]).reducers()


def test_only_settings_that_differ_make_a_sink() -> None:
    assert SinkArguments().make_sinks(["tensorboard"]) == []
    assert SinkArguments(tensorboard_layout="overlay").make_sinks(["mlflow"]) == []
    (sink,) = SinkArguments(tensorboard_layout="overlay").make_sinks(["tensorboard"])
    assert isinstance(sink, TensorBoardSink)


def test_policies_for_nan_by_key_beat_the_one_for_all() -> None:
    registry = SinkArguments(metric_nonfinite="skip", metric_nonfinite_rules=["a/*=propagate"]).make_registry()
    for value in (1.0, float("nan")):
        registry.report_metrics("a", x=value)
        registry.report_metrics("b", x=value)
    metrics = registry.snapshot(step=1).metrics
    assert math.isnan(metrics["a/x"]) and metrics["b/x"] == 1.0
    with pytest.raises(ValueError, match="nonfinite='skp': allowed are propagate, skip, raise"):
        SinkArguments(metric_nonfinite_rules=["a/*=skp"]).make_registry()


def test_spread_is_of_the_registry() -> None:
    registry = SinkArguments(metric_spread=["*/loss"]).make_registry()
    assert [registry._merger._wants_spread(key) for key in ("a/loss", "a/x")] == [True, False]


def test_directions_are_of_the_registry() -> None:
    registry = SinkArguments(metric_directions=["*/bias=min", "a/x=max", "a/acc=neither"]).make_registry()
    assert registry.directions == {"*/bias": "min", "a/x": "max", "a/acc": None}
    assert SinkArguments().make_registry().directions == {}


def test_which_options_a_registry_does_not_follow() -> None:
    options = SinkArguments(
        ["a/x=sum"], metric_nonfinite="skip", metric_nonfinite_rules=["b/*=raise"], metric_max_keys=7,
        metric_spread=["a/*"], metric_directions=["a/x=max", "a/y=neither"], metric_per_epoch=["a/x"],
    )  # fmt: skip
    every = ["reducers", "nonfinite", "max_keys", "nonfinite_rules", "spread", "directions", "per_epoch"]
    assert sorted(options.missing_in(MetricRegistry())) == sorted(f"metric_{name}" for name in every)
    more = MetricRegistry(
        {"a/x": "sum", "c": "max"}, nonfinite={"c": "skip", "b/*": "raise", "*": "skip"}, max_keys=7,
        spread=("b/*", "a/*"), directions={"a/x": "max", "a/y": None}, per_epoch="a/x",
    )  # fmt: skip
    assert options.missing_in(more) == []
    other = MetricRegistry({"a/x": "mean"}, nonfinite="skip", max_keys=8, spread="b/*", directions={"a/x": "max"})
    assert sorted(options.missing_in(other)) == sorted(f"metric_{name}" for name in every)
    assert SinkArguments().missing_in(other) == []


@pytest.mark.parametrize("rule", ["bias", "bias=", "=min", "bias=up", "bias=None"])
def test_what_is_no_direction_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="metric_directions: .*KEY=min, KEY=max or KEY=neither"):
        SinkArguments(metric_directions=[rule]).make_registry()


def test_what_is_set_of_the_backends_is_set_in_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "old")
    SinkArguments().set_environment()
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "old"
    SinkArguments(mlflow_experiment="new", mlflow_tracking_uri="uri", tensorboard_log_dir="dir").set_environment()
    names = ("TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT")
    assert [os.environ[name] for name in names] == ["dir", "uri", "new", "theirs"]


@pytest.mark.parametrize("weights", [["mlm/loss"], ["mlm/loss=heavy"], ["=1"]])
def test_what_is_no_budget_is_refused(weights: list[str]) -> None:
    with pytest.raises(ValueError, match="loss_budget: .*KEY=WEIGHT"):
        SinkArguments(loss_budget=weights).budget()


def test_captured_patterns_have_tasks_all_or_none() -> None:
    with pytest.raises(ValueError, match="'loss_dict=detr' names a task, and 'aux_loss' does not; write PATTERN=TASK"):
        SinkArguments(capture=["loss_dict=detr", "aux_loss"]).captured()


@pytest.mark.parametrize(
    ("name", "settings"), [("capture", {"capture": ["*loss*"]}), ("loss_budget", {"loss_budget": ["a/loss=1"]})]
)
def test_what_is_given_twice_is_refused(name: str, settings: dict[str, Any], tmp_path) -> None:
    given = {"capture": "aux_loss"} if name == "capture" else {"loss_budget": {"b/loss": 1.0}}
    with pytest.raises(ValueError, match=f"{name}=.* is given, and sink_args sets {name}="):
        HfMultiTaskTrainer(Silent(), arguments(tmp_path), sink_args=SinkArguments(**settings), **given)


class Parts(Silent):
    """Returns its loss, and two parts of it."""

    def forward(self, x):
        loss = (self.weight * x).mean()
        return {"loss": loss, "first_loss": loss / 4, "second_loss": 3 * loss / 4}


def test_captured_losses_and_their_budget_from_the_command_line(tmp_path, caplog) -> None:
    words = ["--capture", "*_loss=parts", "--loss_budget", "parts/first_loss=1", "parts/second_loss=0.5"]
    (sink_args,) = HfArgumentParser(SinkArguments).parse_args_into_dataclasses(words)
    trainer = HfMultiTaskTrainer(Parts(), arguments(tmp_path), train_dataset=numbers(4, 4, 4, 4), sink_args=sink_args)
    trainer.train()
    row = trainer.state.log_history[0]
    assert (row["parts/first_loss"], row["parts/second_loss"]) == (1.0, 3.0)
    assert "1 * 1 (parts/first_loss) + 0.5 * 3 (parts/second_loss) = 2.5, but loss = 4" in caplog.text


@pytest.mark.parametrize("kind", [str, Path])
def test_the_directory_of_tensorboard_is_a_text_or_a_path(tmp_path, kind: type) -> None:
    sink_args = SinkArguments(tensorboard_log_dir=kind(tmp_path / "board"))
    train_two_tasks(tmp_path / "out", "tensorboard", sink_args)
    assert read_scalars(tmp_path / "board")["nsp/train/loss"] == POINTS["nsp", "train"]["loss"]


def test_every_field_has_help() -> None:
    assert all(field.metadata["help"] for field in fields(SinkArguments))


def read_yaml(directory, line: str) -> SinkArguments:
    path = directory / "arguments.yaml"
    path.write_text(line)
    (found,) = HfArgumentParser(SinkArguments).parse_yaml_file(path)
    return found


def test_one_value_in_yaml_needs_no_brackets(tmp_path) -> None:
    assert read_yaml(tmp_path, "metric_reducers: '*/n=sum'").reducers() == {"*/n": "sum"}
    assert read_yaml(tmp_path, "console_metrics: mlm/loss").console_metrics == ["mlm/loss"]
    assert read_yaml(tmp_path, "capture: loss_dict=detr").captured() == {"loss_dict": "detr"}
    assert read_yaml(tmp_path, "alerts: '*/loss above=3'").make_alerts() == [Alert("*/loss", above=3)]


def test_values_with_blanks_between_them_are_a_list_as_on_a_command_line(tmp_path) -> None:
    assert read_yaml(tmp_path, "console_metrics: '*/loss mlm/acc'").console_metrics == ["*/loss", "mlm/acc"]
    assert read_yaml(tmp_path, "metric_reducers: '*/n=sum lr=last'").reducers() == {"*/n": "sum", "lr": "last"}


@pytest.mark.parametrize("word", ["off", "'off'", "false"])
def test_the_console_can_be_off_in_yaml_which_reads_the_word_as_false(tmp_path, word: str) -> None:
    assert read_yaml(tmp_path, f"console: {word}").console == "off"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("metric_reducers: {'*/n': sum}", "pass a list of texts. How metrics are reduced: KEY=REDUCER"),
        ("loss_budget: {mlm/loss: 1.0}", "pass a list of texts. All parts of the loss as KEY=WEIGHT"),
        ("loss_budget: [mlm/loss: 1.0]", "pass a list of texts. All parts of the loss as KEY=WEIGHT"),
        ("capture: [true]", "pass a list of texts. Losses to take"),
        ("progress_bar_metrics: [{a: 1}]", "pass a list of texts"),
        ("console_metrics: true", "pass a list of texts"),
        ("metric_max_keys: '50'", "pass a whole number"),
        ("metric_max_keys: 50.5", "pass a whole number"),
        ("drain_seconds: 1e1", "pass a number"),  # YAML 1.1 reads a text, because there is no point
        ("network_limits: 'no'", "pass true or false"),
        ("wandb_project: 2026", "pass a text (in YAML, in quotes). W&B: name of the project"),
        ("mlflow_experiment: [a, b]", "pass a text"),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused_with_what_to_pass(tmp_path, line: str, expected: str) -> None:
    with pytest.raises(TypeError) as caught:
        read_yaml(tmp_path, line)
    assert str(caught.value).startswith(line.partition(":")[0] + "=")
    assert expected in str(caught.value)


def test_an_alert_beside_an_item_of_a_wrong_type_keeps_its_address_secret() -> None:
    with pytest.raises(TypeError, match="pass a list of texts") as caught:
        SinkArguments(alerts=["*/loss nonfinite action=stop,https://hooks.example.com/a/secret", 5])
    assert "secret" not in str(caught.value)


def test_a_class_may_derive_from_both_in_any_order(tmp_path) -> None:
    @dataclass
    class Both(SinkArguments, TrainingArguments):
        pass

    both = Both(output_dir=str(tmp_path), logging_steps=5.0, metric_reducers="*/n=sum")
    assert (both.logging_steps, both.reducers()) == (5, {"*/n": "sum"})  # TrainingArguments makes the 5 whole


@pytest.mark.parametrize("given", [{"console": "off"}, SinkArguments, "off"])
def test_sink_args_must_be_sink_arguments(tmp_path, given) -> None:
    with pytest.raises(TypeError, match=r"sink_args=.*: pass an object, SinkArguments\("):
        HfMultiTaskTrainer(Silent(), arguments(tmp_path), sink_args=given)


def test_training_arguments_in_the_place_of_sink_args_are_named_in_one_line(tmp_path) -> None:
    given = arguments(tmp_path)
    with pytest.raises(TypeError) as caught:
        HfMultiTaskTrainer(Silent(), given, sink_args=given)
    assert str(caught.value) == (
        "sink_args=TrainingArguments: pass an object, SinkArguments(console='dict', …), and training arguments as "
        "args=."
    )


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        (
            {"reducers": {"*/n": "sum"}},
            ["reducers is an argument of the registry: pass metrics=MetricRegistry(reducers=…)."],
        ),
        (
            {"console": "off"},
            ["console is a setting of SinkArguments: pass sink_args=SinkArguments(console=…)."],
        ),
        ({"elsewhere": 1}, []),
    ],
)
def test_an_argument_in_the_wrong_place_is_told_the_right_one(tmp_path, given, notes: list[str]) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(given))}'") as caught:
        HfMultiTaskTrainer(Silent(), arguments(tmp_path), **given)
    assert getattr(caught.value, "__notes__", []) == notes


def test_an_unknown_argument_of_something_else_than_the_trainer_gets_no_such_note(tmp_path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'per_epoch'") as caught:
        HfMultiTaskTrainer(args=arguments(tmp_path), model_init=lambda: Silent(per_epoch=1))
    assert not hasattr(caught.value, "__notes__")


def test_two_rules_for_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="metric_reducers: 'lr' is both 'sum' and 'last'; write one of them"):
        SinkArguments(metric_reducers=["lr=sum", "lr=last"]).reducers()


@pytest.mark.parametrize("option", ["tensorboard_layout", "console", "metric_nonfinite"])
def test_a_word_that_a_yaml_file_misspells_is_refused_at_once(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}='tabel': choose one of '"):
        SinkArguments(**{option: "tabel"})
