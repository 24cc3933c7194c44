"""Copies of a registry: the rules travel, the windows are empty, locks and numbers are made anew."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import pickle
import subprocess
import sys
import threading
from types import MappingProxyType, SimpleNamespace

import cloudpickle
import numpy as np
import pytest

from mtask_sinks import MetricRegistry, Reducer, SinkArguments, register_reducer
from mtask_sinks.errors import ConflictError, MetricKeyError, NonFiniteError
from mtask_sinks.testing import Job

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
}


def spread(values):
    return values.max() - values.min()


def perplexity(metrics):
    return np.exp(metrics["mlm/loss"])


class Geometric(Reducer):
    """A reducer of a user's own."""

    merge = ("sum", "sum")

    def initial(self):
        return np.zeros(2)

    def update(self, state, values, weights):
        state += (np.log(values).sum(), len(values))

    def compute(self, state):
        return float(np.exp(state[0] / state[1]))


#: An argument of `MetricRegistry` → a value other than its default.
SETTINGS = {
    "reducers": {"*/n": "sum", "a/spread": spread, "a/geo": Geometric(), "*/p": "p75"},
    "derived": {"mlm/perplexity": perplexity},
    "nonfinite": {"a/skip": "skip", "*/raise": "raise"},
    "max_keys": 9,
    "spread": ["a/n"],
    "directions": {"*/bias": "min", "a/n": None},
    "per_epoch": ["*/loss"],
}


def report_all(registry):
    registry.report_metrics("a", n=3, spread=5.0, geo=2.0, p=1.0)
    registry.report_metrics("a", n=4, spread=7.0, geo=8.0, p=2.0)
    registry.report_metrics("mlm", loss=0.0)
    return dict(registry.snapshot(step=1).metrics)


EXPECTED = {"a/n": 7.0, "a/spread": 2.0, "a/geo": 4.0, "a/p": 1.75, "mlm/loss": 0.0, "mlm/perplexity": 1.0}


def test_the_settings_here_are_all_that_there_are() -> None:
    assert {*SETTINGS, "process_group"} == {*inspect.signature(MetricRegistry).parameters}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_rules_and_none_of_the_values(way) -> None:
    registry = MetricRegistry(**SETTINGS)
    registry.report_metrics("a", n=1000, spread=-99.0, geo=1.0, p=50.0)
    with registry.phase("eval"):
        registry.report_metrics("mlm", loss=9.0)
    copied = WAYS[way](registry)
    assert dict(copied.snapshot(step=1).metrics) == dict(copied.snapshot(step=1, phase="eval").metrics) == {}
    assert report_all(copied) == pytest.approx(EXPECTED, rel=1e-12)
    assert dict(registry.snapshot(step=1, phase="eval").metrics)["mlm/loss"] == 9.0
    assert registry.snapshot(step=1).metrics["a/n"] == 1000.0  # what the copy reported went nowhere else
    assert copied.handle != registry.handle


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_holds_in_a_copy(way) -> None:
    copied = WAYS[way](MetricRegistry(**SETTINGS))
    copied.report_metrics("a", skip=float("nan"))
    assert dict(copied.snapshot(step=1).metrics) == {"a/skip.nonfinite": 1.0}
    copied.report_metrics("b", **{"raise": float("nan")})
    with pytest.raises(NonFiniteError):
        copied.snapshot(step=1)
    assert dict(copied.directions) == {"*/bias": "min", "a/n": None}
    for number in range(20):
        copied.report_metrics("many", **{f"x{number}": 1.0})
    assert copied.dropped["max_keys"] > 0
    with pytest.raises(MetricKeyError, match="derived metric"):
        copied.report_metrics("mlm", perplexity=1.0)


@pytest.mark.parametrize("way", WAYS)
def test_registered_keys_and_reserved_names_travel(way) -> None:
    registry = MetricRegistry({"a/x": "max"})
    registry.register("b/n", "sum")
    registry.register("b/geo", Geometric())
    registry.reserve("loss".__eq__)
    copied = WAYS[way](registry)
    with pytest.raises(ConflictError):
        copied.register("b/n", "mean")
    with pytest.raises(MetricKeyError):
        copied.report_metrics(loss=1.0)
    copied.register("b/geo", Geometric())
    copied.report_metrics("b", n=2)
    copied.report_metrics("b", n=3)
    assert copied.snapshot(step=1).metrics["b/n"] == 5.0


class Gated(MetricRegistry):
    """Has arguments and attributes of its own, and sees every report."""

    def __init__(self, gates, **settings):
        self.gates = gates
        super().__init__(**settings)
        self.seen = 0

    def record(self, task, metrics):
        self.seen += 1
        super().record(task, {name: value for name, value in metrics.items() if name in self.gates})


@pytest.mark.parametrize("way", WAYS)
def test_a_class_derived_from_it_keeps_its_own_attributes(way) -> None:
    registry = Gated(["n"], reducers={"*/n": "sum"})
    registry.report_metrics("a", n=1, other=2)
    copied = WAYS[way](registry)
    assert (type(copied), copied.gates, copied.seen) == (Gated, ["n"], 1)
    copied.report_metrics("a", n=2, other=2)
    copied.report_metrics("a", n=3)
    assert dict(copied.snapshot(step=1).metrics) == {"a/n": 5.0}
    assert (copied.seen, registry.seen) == (3, 1)


def test_functions_without_a_name_go_through_deepcopy_and_cloudpickle() -> None:
    bound = 3.0
    registry = MetricRegistry(
        {"a/x": lambda values: min(values.max(), bound)}, {"a/twice": lambda m: 2 * m["a/x"]}, per_epoch="*"
    )
    for copied in (copy.deepcopy(registry), WAYS["cloudpickle"](registry)):
        copied.report_metrics("a", x=5.0)
        assert dict(copied.snapshot(step=1).metrics) == {"a/x": 3.0, "a/twice": 6.0}


def test_rules_in_a_read_only_mapping_travel() -> None:
    copied = WAYS["pickle"](MetricRegistry(MappingProxyType({"*/n": "sum"})))
    copied.report_metrics("a", n=1)
    copied.report_metrics("a", n=1)
    assert copied.snapshot(step=1).metrics["a/n"] == 2.0


def test_a_pickle_is_used_in_a_process_that_does_not_know_the_names_of_this_one(tmp_path) -> None:
    register_reducer("only_known_here", Geometric)
    registry = MetricRegistry({"*/geo": "only_known_here"}, {"a/double": lambda m: 2 * m["a/geo"]})
    registry.register("b/geo", "only_known_here")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        (tmp_path / "registry.pkl").write_bytes(cloudpickle.dumps(registry))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    script = (
        "import pickle; registry = pickle.load(open('registry.pkl', 'rb'))\n"
        "for value in (2.0, 8.0): registry.report_metrics('a', geo=value)\n"
        "print({key: round(value, 9) for key, value in registry.snapshot(step=1).metrics.items()})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("{'a/geo': 4.0, 'a/double': 8.0}", 0), done.stderr


def test_copies_are_made_while_threads_report_and_others_are_at_work() -> None:
    registry, stop = MetricRegistry({"*/n": "sum"}), threading.Event()

    def report():
        while not stop.is_set():
            registry.report_metrics("a", n=1)

    thread = threading.Thread(target=report)
    thread.start()
    try:
        with registry.activate(), registry.phase("eval"):
            for way in WAYS.values():
                copied = way(registry)
                copied.report_metrics("a", n=2)  # of the phase train: nobody has entered another one of the copy
                assert copied.snapshot(step=1).metrics["a/n"] == 2.0
    finally:
        stop.set()
        thread.join(timeout=30)


def test_a_copy_warns_of_what_it_meets_itself(caplog) -> None:
    registry = MetricRegistry(max_keys=1)
    registry.report_metrics("a", x=1.0, y=1.0)
    copied = copy.deepcopy(registry)
    assert (dict(registry.dropped), dict(copied.dropped)) == ({"max_keys": 1}, {})


def test_ranks_with_an_original_and_with_copies_agree() -> None:
    def job(ranks):
        registry = MetricRegistry({"*/n": "sum", "a/geo": Geometric()}, process_group=ranks)
        mine = [registry, copy.copy(registry), copy.deepcopy(registry)][ranks.rank]
        mine.report_metrics("a", n=ranks.rank + 1, geo=2.0 ** (ranks.rank + 1))
        return dict(mine.snapshot(step=1).metrics)

    assert Job(3).run(job) == [{"a/n": 6.0, "a/geo": pytest.approx(4.0)}] * 3


def test_a_process_group_is_kept_in_the_process_and_left_behind_by_a_pickle(caplog) -> None:
    def job(ranks):
        registry = MetricRegistry({"*/n": "sum"}, process_group=ranks)
        sums = []
        for way in ("copy", "deepcopy", "pickle"):
            copied = WAYS[way](registry)
            copied.report_metrics("a", n=1)
            sums.append(copied.snapshot(step=1).metrics["a/n"])
        return sums

    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        assert Job(2).run(job) == [[2.0, 2.0, 1.0]] * 2  # the last one is alone: no job has been set up
    assert len([record for record in caplog.records if "without its process_group" in record.message]) == 2


@pytest.mark.parametrize("way", WAYS)
def test_the_arguments_of_a_command_line_can_be_copied(way) -> None:
    settings = SinkArguments(
        metric_reducers=["*/n=sum"], capture=["loss_dict=detr"], loss_budget=["a/x=2"], metric_directions=["a/x=max"],
        console_metrics=["a/*"], tensorboard_layout="overlay", drain_seconds=3.0,
    )  # fmt: skip
    copied = WAYS[way](settings)
    assert copied == settings and copied is not settings
    registry = WAYS[way](copied.make_registry())
    registry.report_metrics("a", n=1)
    registry.report_metrics("a", n=1)
    assert registry.snapshot(step=1).metrics["a/n"] == 2.0 and registry.directions == {"a/x": "max"}


def test_holders_of_a_registry_can_be_copied() -> None:
    """As a Ray Train loop, a partial or an argument of `mp.spawn` holds it."""
    registry = MetricRegistry({"*/n": "sum"})
    work = functools.partial(report_all, registry)
    assert pickle.loads(pickle.dumps(work))()["a/n"] == 7.0
    assert pickle.loads(cloudpickle.dumps(lambda: report_all(registry)))()["a/n"] == 7.0
    assert report_all(copy.deepcopy(SimpleNamespace(registry=registry)).registry)["a/n"] == 7.0
