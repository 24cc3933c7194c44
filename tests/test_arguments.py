from __future__ import annotations

import pickle

import pytest
from transformers import HfArgumentParser, TrainingArguments

from mtask_sinks import SinkArguments
from mtask_sinks.plain_types import with_plain_types
from mtask_sinks.reducers import Sum
from mtask_sinks.sinks import TensorBoardSink

COMMAND = [
    *("--output_dir", "out", "--report_to", "tensorboard", "--lr_scheduler_type", "cosine", "--logging_steps", "3"),
    *("--eval_strategy", "steps", "--eval_steps", "5", "--metric_reducers", "*/n_tokens=sum", "lr_scale=last"),
    *("--metric_nonfinite", "skip", "--metric_max_keys", "7", "--tensorboard_layout", "overlay"),
]


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


def test_parser_binding_reads_both_as_hf_argument_parser_does() -> None:
    from parser_binding import BindingParser

    plain = with_plain_types(TrainingArguments)
    classes = (plain, SinkArguments)
    args, sink_args = BindingParser(*classes).parse_into_dataclasses(classes, args=COMMAND, split_classes=True)
    expected, expected_sinks = HfArgumentParser((TrainingArguments, SinkArguments)).parse_args_into_dataclasses(COMMAND)
    assert args.to_dict() == expected.to_dict()
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
    assert {name for name in theirs if plain[name] != theirs[name]} <= {"logging_dir"}  # which holds the time


def test_rules_become_reducers() -> None:
    registry = SinkArguments(["*/n=sum"], metric_max_keys=2).make_registry()
    for _ in range(2):
        registry.report_metrics("t", n=2.0, x=1.0, dropped=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"t/n": 4.0, "t/x": 1.0}
    assert registry._rules.of("x/n") == Sum()


@pytest.mark.parametrize("rule", ["sum", "=sum", "a=", ""])
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="KEY=REDUCER"):
        SinkArguments([rule]).reducers()


def test_only_settings_that_differ_make_a_sink() -> None:
    assert SinkArguments().make_sinks(["tensorboard"]) == []
    assert SinkArguments(tensorboard_layout="overlay").make_sinks(["mlflow"]) == []
    (sink,) = SinkArguments(tensorboard_layout="overlay").make_sinks(["tensorboard"])
    assert isinstance(sink, TensorBoardSink)


def test_every_field_has_help() -> None:
    from dataclasses import fields

    assert all(field.metadata["help"] for field in fields(SinkArguments))
