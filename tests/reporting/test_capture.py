"""Capture: which fields it reads, under which keys, with which weight, and from which model."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from mtask_sinks import MetricRegistry
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.reporting.capture import Capture


class Returns(nn.Module):
    """Returns the output that a test sets."""

    def __init__(self, output: Any = None) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Any = None, **others: Any) -> Any:
        return self.output(x) if callable(self.output) else self.output


@dataclass
class Info(ModelOutput):
    mim: torch.Tensor | None = None
    mlm: torch.Tensor | None = None


@dataclass
class Output(ModelOutput):
    loss: torch.Tensor | None = None
    loss_info: Info | None = None
    aux_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass
class Plain:
    loss: float
    part_loss: float


def captured(patterns: Any, output: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
    registry = MetricRegistry()
    model = Returns(output)
    with Capture(patterns).watching(model, registry):
        model(*args, **kwargs)
    return dict(registry.snapshot(step=1).metrics)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value)


FULL = Output(loss=scalar(9.0), loss_info=Info(mlm=scalar(2.0)), aux_loss=scalar([0.5]), logits=torch.ones(1, 1))


@pytest.mark.parametrize(
    ("patterns", "keys"),
    [
        ("*loss*", {"loss_info/mlm": 2.0, "aux_loss": 0.5}),
        ("*", {"loss_info/mlm": 2.0, "aux_loss": 0.5}),
        ("*_loss", {"aux_loss": 0.5}),
        ("mlm", {"loss_info/mlm": 2.0}),
        ("loss_info", {"loss_info/mlm": 2.0}),
        ("loss_info/m*", {"loss_info/mlm": 2.0}),
        (["mim", "aux_*"], {"aux_loss": 0.5}),
        ({"loss_info": "flava", "aux_loss": "router"}, {"flava/mlm": 2.0, "router/aux_loss": 0.5}),
        ({"*_loss": "aux/moe"}, {"aux/moe/aux_loss": 0.5}),
        ("loss", {}),
        ("logits", {}),
        ([], {}),
    ],
)
def test_patterns_name_paths_last_parts_and_dicts(patterns: Any, keys: dict[str, float]) -> None:
    assert captured(patterns, FULL) == keys


def test_dicts_dataclasses_and_numbers_are_read_too() -> None:
    assert captured("*", {"loss": 1.0, "d": {"e": {"f": 2}}, "flag": True, "text": "x"}) == {"d/e/f": 2.0}
    assert captured("*", Plain(loss=3.0, part_loss=1.5)) == {"part_loss": 1.5}
    assert captured("*", (scalar(1.0), scalar(2.0))) == {}


def test_numbers_of_numpy_are_read_too() -> None:
    output = {
        "single": np.float32(0.5),
        "count": np.int64(3),
        "zero_d": np.array(1.5),
        "one": np.array([2.5], dtype=np.float32),
        "flag": np.bool_(True),
        "flags": np.array([True]),
        "text": np.array("x"),
        "took": np.timedelta64(5, "s"),
        "when": np.datetime64("2026-01-01"),
        "many": np.ones(2),
    }
    assert captured("*", output) == {"single": 0.5, "count": 3.0, "zero_d": 1.5, "one": 2.5}


class Named(NamedTuple):
    loss: torch.Tensor
    part_loss: torch.Tensor


def test_named_tuples_are_read_too() -> None:
    assert captured("*", Named(scalar(3.0), scalar(1.5))) == {"part_loss": 1.5}
    assert captured("*", {"parts": Named(scalar(3.0), scalar(1.5))}) == {"parts/loss": 3.0, "parts/part_loss": 1.5}


@pytest.mark.parametrize("left_out", [[1.0, 2.0], (scalar(1.0), scalar(2.0)), [{"ce": scalar(1.0)}]])
def test_a_list_of_losses_is_left_out_with_a_warning(left_out: Any, caplog) -> None:
    output = {"loss": scalar(9.0), "aux_loss": scalar(2.0), "layer_losses": left_out, "names": left_out}
    assert captured("*loss*", output) == {"aux_loss": 2.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(
        f"capture: the output layer_losses is left out, because it is a {type(left_out).__name__}"
    )


def test_a_list_whose_name_is_no_key_is_said_as_a_number_of_that_name_would_be(caplog) -> None:
    output = {"loss": scalar(9.0), "a": scalar(2.0), 0: [1.0, 2.0], "box losses": [3.0]}
    assert captured(["a", "0", "box_losses"], output) == {"a": 2.0}
    texts = [record.getMessage().partition(", because")[0] for record in caplog.records]
    assert texts == ["capture: the output 0 is left out", "capture: the output box_losses is left out"]


def test_lists_without_numbers_are_not_said(caplog) -> None:
    output = {"loss": scalar(9.0), "a_loss": scalar(2.0), "hidden_states": (torch.ones(2, 2),), "text": ["x"]}
    assert captured("*", output) == {"a_loss": 2.0}
    assert caplog.records == []


def test_the_combined_loss_in_a_dict_is_not_taken_once_more_but_another_loss_is() -> None:
    total = scalar(3.0)
    output = {"loss": total, "loss_dict": {"loss": total, "a": scalar(1.0)}, "decoder": {"loss": scalar(2.0)}}
    assert captured("*loss*", output) == {"loss_dict/a": 1.0, "decoder/loss": 2.0}


def test_a_part_that_is_all_of_the_loss_in_some_batches_counts_in_these_too() -> None:
    def only_mlm(x: torch.Tensor) -> Any:
        loss = x.mean()
        return {"loss": loss, "mlm_loss": loss}

    assert captured("mlm_loss", only_mlm, scalar([4.0])) == {"mlm_loss": 4.0}


def test_characters_that_no_key_may_have_are_replaced() -> None:
    assert captured("*", {"loss dict": {"box l1": 1.0, "ä": 2.0, "😀": 5.0, 7: 3.0, "mlm/loss": 4.0}}) == {
        "loss_dict/box_l1": 1.0, "loss_dict/ä": 2.0, "loss_dict/_": 5.0, "loss_dict/7": 3.0, "loss_dict/mlm/loss": 4.0,
    }  # fmt: skip


def test_fields_that_would_share_a_key_are_not_mixed(caplog) -> None:
    assert captured({"*": "t"}, {"a": {"ce": 1.0}, "b": {"ce": 5.0}}) == {"t/ce": 1.0}
    assert "the outputs a/ce and b/ce would both get the key t/ce" in caplog.text


def test_a_field_whose_key_is_refused_is_left_out_and_the_others_stay(caplog) -> None:
    registry = MetricRegistry(derived={"z": lambda m: m["a"]})
    model = Returns({"z": 1.0, "a": 2.0, "": 3.0})
    with Capture("*").watching(model, registry):
        for _ in range(3):
            model()
    snapshot = registry.snapshot(step=1)
    assert (dict(snapshot.metrics), snapshot.counts["a"]) == ({"a": 2.0, "z": 2.0}, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize(
    ("patterns", "error", "says"),
    [
        *((patterns, TypeError, r"pass one pattern .*, several .*, or a mapping") for patterns in (5, [1], {3: "a"})),
        *((patterns, MetricKeyError, "'not valid' is no valid key") for patterns in ({"a": "not valid"}, "not valid")),
        ({"a": 3}, MetricKeyError, "3 is no valid key"),
    ],
)
def test_what_is_no_pattern_is_refused_at_once(patterns: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Capture(patterns)


# Averages


def mean_of(sizes: list[int], call: Any, main_input_name: str | None = None) -> float:
    """Reduce over batches of these sizes. The value of each batch is its size squared."""
    registry = MetricRegistry()
    model = Returns()
    model.main_input_name = main_input_name
    with Capture("a_loss").watching(model, registry):
        for size in sizes:
            model.output = {"a_loss": scalar(float(size**2))}
            call(model, size)
    return registry.snapshot(step=1).metrics["a_loss"]


CALLS = {
    "keyword": lambda model, n: model(x=torch.zeros(n, 3)),
    "position": lambda model, n: model(torch.zeros(n)),
    "after a number and a scalar": lambda model, n: model(None, num_items=scalar(7), b=torch.zeros(n, 1)),
    "labels are lists": lambda model, n: model(labels=[{"c": torch.zeros(9)}] * n, pixels=torch.zeros(n, 3)),
    "the main input beats the first": lambda model, n: model(flat=torch.zeros(9 * n + 4), main=torch.zeros(n)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_forward_counts_with_the_size_of_its_batch(name: str) -> None:
    sizes = [4, 4, 1]
    expected = np.average(np.square(sizes), weights=sizes)
    assert mean_of(sizes, CALLS[name], "main") == pytest.approx(expected, rel=1e-12)


def test_forwards_without_any_tensor_count_once_each() -> None:
    assert mean_of([4, 4, 1], lambda model, n: model()) == 11.0


@pytest.mark.parametrize("kind", [torch.ones, np.ones], ids=["tensor", "array"])
@pytest.mark.parametrize("sizes", [[4, 4, 1], [1, 4, 1]], ids=str)
def test_a_loss_per_sample_is_left_out_with_a_warning_also_in_a_batch_of_one_sample(sizes, kind, caplog) -> None:
    registry, model = MetricRegistry(), Returns()
    with Capture("*_loss*").watching(model, registry):
        for size in sizes[:2]:
            model.output = {"a_loss": scalar(1.0), "a_losses": kind(size), "nothing_loss": torch.zeros(0)}
            model(torch.zeros(size))
        registry.snapshot(step=1)
        model.output = {"a_loss": scalar(1.0), "a_losses": kind(1), "nothing_loss": scalar(2.0)}
        model(torch.zeros(sizes[2]))
    assert registry.snapshot(step=2).metrics == {"a_loss": 1.0, "nothing_loss": 2.0}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("capture: the output a_losses is left out, because it has several numbers")


def test_vectors_that_no_pattern_matches_are_not_said(caplog) -> None:
    assert captured("*_loss", {"loss": torch.ones(3), "a_loss": scalar(1.0), "scores": torch.ones(3)}) == {"a_loss": 1}
    assert not caplog.records


# Which model


def test_the_hook_is_gone_afterwards_also_after_an_error() -> None:
    hooks = []

    def fails(x: Any) -> None:
        hooks.extend(model._forward_hooks)
        raise KeyError

    model = Returns(fails)
    with pytest.raises(KeyError), Capture("*").watching(model, MetricRegistry()):
        model()
    assert len(hooks) == 1
    assert (len(model._forward_hooks), len(model._forward_hooks_with_kwargs)) == (0, 0)


def test_without_patterns_or_model_there_is_no_hook() -> None:
    model = Returns({"a_loss": 1.0})
    with Capture([]).watching(model, MetricRegistry()), Capture("*").watching(None, MetricRegistry()):
        assert not model._forward_hooks


def test_submodules_and_other_instances_are_not_captured() -> None:
    inner, other = Returns({"inner_loss": 1.0}), Returns({"other_loss": 1.0})
    model = nn.Sequential(inner)
    registry = MetricRegistry()
    with Capture("*").watching(model, registry):
        model(None)
        other()
    assert dict(registry.snapshot(step=1).metrics) == {"inner_loss": 1.0}
    with Capture("*").watching(model, registry):
        inner()
    assert not registry.snapshot(step=2).metrics


def test_copies_and_pickles_made_meanwhile_report_nothing() -> None:
    model = Returns({"a_loss": 1.0})
    registry = MetricRegistry()
    with Capture("*").watching(model, registry):
        data = pickle.dumps(model)
        for twin in (copy.deepcopy(model), pickle.loads(data)):
            assert twin() == {"a_loss": 1.0}
    assert not registry.snapshot(step=1).metrics
    assert b"mtask_sinks.reporting.capture" not in data


def test_the_innermost_block_on_a_model_counts() -> None:
    model, outer, inner = Returns({"a_loss": 1.0}), MetricRegistry(), MetricRegistry()
    with Capture("*").watching(model, outer):
        model()
        with Capture("*").watching(model, inner):
            model()
        with Capture([]).watching(model, inner):
            model()
        model()
    assert (outer.snapshot(step=1).counts["a_loss"], inner.snapshot(step=1).counts["a_loss"]) == (2, 1)


def test_replicas_of_data_parallel_each_count_with_their_part() -> None:
    model, registry = Returns(lambda x: {"loss": x.sum(), "part": x.mean()}), MetricRegistry()
    chunks = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]
    with Capture("part").watching(model, registry):
        replicas = [model._replicate_for_data_parallel() for _ in chunks]
        threads = [threading.Thread(target=twin, args=(chunk,)) for twin, chunk in zip(replicas, chunks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert registry.snapshot(step=1).metrics["part"] == 4.0


class Generator(Returns):
    """Has its own ``generate``, as models outside transformers have."""

    def generate(self, steps: int, **arguments: Any) -> None:
        for _ in range(steps):
            self(**arguments)


@pytest.mark.parametrize("arguments", [{}, {"past_key_values": object()}, {"cache": object()}])
def test_a_generation_is_known_by_the_call_of_generate_whatever_its_arguments(arguments: dict[str, Any]) -> None:
    model, registry = Generator({"aux": 5.0}), MetricRegistry()
    with Capture("aux").watching(model, registry):
        model.generate(3, **arguments)
        model.output = {"aux": 1.0}
        model(**arguments)  # a call of the model is no generation, whatever the arguments
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics["aux"], snapshot.counts["aux"]) == (1.0, 1)


def test_a_forward_inside_another_models_generate_counts() -> None:
    class Judged(nn.Module):
        def generate(self, judge: nn.Module) -> None:
            judge()

    model, registry = Returns({"aux": 1.0}), MetricRegistry()
    with Capture("aux").watching(model, registry):
        Judged().generate(model)
    assert registry.snapshot(step=1).counts["aux"] == 1


# torch.compile


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Output:
        y = self.layer(x)
        aux = y.pow(2).mean()
        return Output(loss=aux + y.abs().mean(), loss_info=Info(mlm=y.abs().mean()), aux_loss=aux)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_graph_of_a_compiled_model_stays_whole(in_place: bool) -> None:
    torch._dynamo.reset()
    model, registry, batches = Parts(), MetricRegistry(), torch.randn(3, 2, 4)
    expected = [model(batch) for batch in batches]
    settings = {"backend": "aot_eager", "fullgraph": True}  # so that a graph break is an error
    compiled = model if in_place else torch.compile(model, **settings)
    if in_place:
        model.compile(**settings)
    torch._dynamo.utils.counters.clear()
    with Capture("*loss*").watching(model, registry):
        for batch in batches:
            compiled(batch).loss.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert dict(registry.snapshot(step=1).metrics) == pytest.approx({
        "aux_loss": np.mean([out.aux_loss.item() for out in expected]),
        "loss_info/mlm": np.mean([out.loss_info.mlm.item() for out in expected]),
    }, rel=1e-6)  # fmt: skip


# Messages


def test_a_capture_that_finds_nothing_says_so_once_and_lists_the_fields(caplog) -> None:
    model = Returns({"logits": torch.ones(2)})
    with Capture("*_los").watching(model, MetricRegistry()):
        model()
        assert not caplog.records
        for _ in range(2):
            model.output = Output(loss=scalar(1.0), logits=torch.ones(2))
            model()
    (record,) = caplog.records
    assert "capture='*_los' matches no number" in record.getMessage()
    assert "Output(loss, loss_info=None, aux_loss=None, logits)" in record.getMessage()


def test_outputs_without_names_are_said_too(caplog) -> None:
    assert captured("*loss*", (scalar(1.0),)) == {}
    assert "return_dict=True" in caplog.text


def test_an_output_that_refers_to_itself_ends() -> None:
    output: dict[str, Any] = {"loss": 1.0, "x": 2.0}
    output["self"] = output
    assert captured(["x"], output)["x"] == 2.0


def test_the_first_output_without_a_loss_is_the_one_that_is_named() -> None:
    captured = Capture("*loss*")
    for output in ({"logits": torch.ones(2, 2)}, {"hidden": torch.ones(2, 2)}):
        captured.report_output(output, 2, MetricRegistry())
    assert captured.why_idle()[-1] == "dict(logits)"
