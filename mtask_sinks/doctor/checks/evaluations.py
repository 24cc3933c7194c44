"""Checks of the evaluations of the script's multi-task trainers."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mtask_sinks.doctor.classes import expressions_of, find_method, name_of, reached, words_of
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.flags import has_flag
from mtask_sinks.doctor.report_calls import report_calls
from mtask_sinks.doctor.script import Call, Function, Script
from mtask_sinks.doctor.trainer_classes import is_multi_task, replacing_methods

# What an evaluation calls to run the model, or to compute the loss.
_RUN_MODEL = frozenset({"model", "model_wrapped"})
_RUN_LOSS = frozenset({"compute_loss", "prediction_step"})
# If one of these names is in an ``evaluate``, it calls the Trainer's own evaluation, or opens a phase.
_HAS_PHASE = frozenset({"report_phase", "evaluation_loop", "prediction_loop", "predict", "_evaluate"})
# Arguments of ``forward`` that let an evaluation compute the loss, besides those that contain "label".
_OTHER_LABELS = ("start_positions", "end_positions", "return_loss")
# Methods of a model that run it.
_FORWARDS = ("forward", "generate", "encode")
_EVALUATIONS = ("evaluate", "evaluation_loop", "prediction_loop")


def own_evaluation(script: Script) -> Iterator[Observation]:
    """A trainer overrides its evaluation without `super()` or `report_phase`: reports of its forwards do not count."""
    reporting = _reporting_methods(script)
    for name in _EVALUATIONS:
        for evaluation in replacing_methods(script, name, even_behind_ours=name == "evaluate"):
            functions = reached(script, evaluation)
            has_phase = words_of(functions) & (_HAS_PHASE if name == "evaluate" else {"report_phase"})
            if not has_phase and _called(functions) & reporting:
                yield Observation(
                    evaluation.source.where(evaluation.node),
                    f"{name_of(evaluation)} calls neither super().{name}(...) nor report_phase: what a forward reports "
                    "there does not count, neither for the evaluation nor for the training.",
                    "Put the forwards into a phase: with self.report_phase(metric_key_prefix): ...",
                )


def no_label_names(script: Script) -> Iterator[Observation]:
    """Only `compute_loss` reports, and evaluations do not call it, because the model's `forward` takes no labels."""
    if not {"label_names", "return_loss"}.isdisjoint(script.words):
        return
    for call in script.calls:
        trainer = script.classes.get(script.resolve(call.source, call.node.func) or "")
        evaluated = call.keywords.get("eval_dataset", ast.Constant(None))
        is_evaluated = not (isinstance(evaluated, ast.Constant) and evaluated.value is None)
        if trainer is None or not is_evaluated or not is_multi_task(script, trainer):
            continue
        compute_loss = find_method(script, trainer, "compute_loss")
        if compute_loss is None or any(
            find_method(script, trainer, name) for name in (*_EVALUATIONS, "prediction_step")
        ):
            continue
        forward = _forward(script, call)
        if forward is not None and _takes_no_labels(forward) and _only_reports(script, compute_loss):
            yield Observation(
                compute_loss.source.where(compute_loss.node),
                f"{name_of(compute_loss)} reports, but an evaluation calls it only if batches have labels, and "
                f"{name_of(forward)} takes none: the evaluation has no task metrics.",
                "List the columns that the loss needs: TrainingArguments(label_names=[...]). Or report in forward.",
            )


def _called(functions: list[Function]) -> set[str]:
    """Return the last part of each called name; ``model`` for calls that run the model, such as an evaluator's."""
    found = set()
    for call in expressions_of(functions):
        if isinstance(call, ast.Call):
            *before, name = ast.unparse(call.func).split(".")
            given = [ast.unparse(each) for each in (*call.args, *(keyword.value for keyword in call.keywords))]
            is_evaluator = "evaluat" in name and not {"model", "self.model"}.isdisjoint(given)
            is_forward = name in _FORWARDS and "model" in before
            found.add("model" if is_evaluator or is_forward else name)
    return found


def _reporting_methods(script: Script) -> frozenset[str]:
    """Return what an evaluation calls to make reports: the model and the loss, or only the loss."""
    reports = [report for report in report_calls(script) if report.kind != "object"]
    of_others = [report for report in reports if report.cls is not None and not is_multi_task(script, report.cls)]
    if has_flag(script) or "capture" in script.words or of_others:
        return _RUN_MODEL | _RUN_LOSS
    return _RUN_LOSS if reports else frozenset()


def _forward(script: Script, call: Call) -> Function | None:
    """Return ``forward`` of the model that a trainer gets; ``None`` if the script does not show it."""
    model = call.keywords.get("model", call.node.args[0] if call.node.args else None)
    cls = None if model is None else script.class_of(call.source, model)
    return None if cls is None else find_method(script, cls, "forward")


def _takes_no_labels(forward: Function) -> bool:
    """Return whether the Trainer finds no names of labels among the arguments of a model's ``forward``."""
    arguments = forward.node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return not any("label" in name or name in _OTHER_LABELS for name in names)


def _only_reports(script: Script, function: Function) -> bool:
    """Return whether a function makes reports, and no other code does."""
    inside = {node for node in expressions_of(reached(script, function)) if isinstance(node, ast.Call)}
    reports = {report.node for report in report_calls(script)}
    return bool(reports) and reports <= inside and not has_flag(script) and "capture" not in script.words
