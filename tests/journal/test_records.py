from __future__ import annotations

import datetime
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.process import process_start
from mtask_sinks.journal.decode import decode
from mtask_sinks.journal.records import Begin, End, encode, is_snapshot

RUN = RunInfo(
    id="r", output_dir="out", name="bert", params={"lr": 0.1}, step=5, attached={"wandb": "w"},
    continued={"mlflow": "m"}, logged=frozenset({"wandb"}), directions={"*/bias": "min", "a/x": "max", "a/acc": None},
)  # fmt: skip
ITEMS = [
    Begin(RUN, 12.5, {"torch": "2"}, ("host", 1, "t")),
    Begin(RUN, 12.5, {"torch": "2"}, ("host", 1, "t"), None),
    Snapshot(7, "eval", {"a/x": 1 / 3}, None, 1.5, {"a/x": 2}, {"a/x": 1}, {"eval_loss": math.inf, "note": "text"}),
    Snapshot(8, metrics={"a/x": 1.0}, is_partial=True),
    Snapshot(9, metrics={"a/x": math.nan}, is_partial=True),
    End("r", "failed", 13.5),
]


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_is_read_as_it_was_written(item) -> None:
    line = encode(item)
    assert decode(line) == item
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert is_snapshot(line) == isinstance(item, Snapshot)


def test_secrets_do_not_get_into_the_journal() -> None:
    params = {
        "hub_token": "hf_abc", "api_key": "abc", "nested": {"WANDB_API_KEY": "abc", "db_password": "abc"},
        "uri": "postgresql://me:abc@host/db", "pad_token_id": 3, "tokenizer": "bert", "hub_token_used": True,
        "empty": {"token": ""}, "push_to_hub_token": "<PUSH_TO_HUB_TOKEN>", 0: "LABEL_0",
    }  # fmt: skip
    written = json.loads(encode(Begin(RunInfo(params=params))))["params"]
    assert written == {
        "hub_token": "***", "api_key": "***", "nested": {"WANDB_API_KEY": "***", "db_password": "***"},
        "uri": "postgresql://***@host/db", "pad_token_id": 3, "tokenizer": "bert", "hub_token_used": True,
        "empty": {"token": ""}, "push_to_hub_token": "<PUSH_TO_HUB_TOKEN>", "0": "LABEL_0",
    }  # fmt: skip


def test_whatever_the_parameters_are_they_can_be_written() -> None:
    odd = {"nan": [math.nan, {"inf": math.inf}], "type": int, (1, 2): {3}, "nested": [{(1, 2): 3}]}
    assert json.loads(encode(Begin(RunInfo(params=odd))))["params"] == {
        "nan": ["NaN", {"inf": "Infinity"}], "type": "<class 'int'>",
        "(1, 2)": [3], "nested": [{"(1, 2)": 3}],
    }  # fmt: skip


def test_a_process_is_at_work_while_it_is_there() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Begin(RUN)
    host, number, token = here.process
    assert here.is_at_work()
    assert not Begin(RUN, process=(host, number, "of an earlier process of that number")).is_at_work()
    assert not Begin(RUN, process=("elsewhere", number, token)).is_at_work()
    unknown = Begin(RUN, process=(host, other.pid, ""), started=None)  # as earlier versions wrote it
    known = replace(unknown, started=process_start(other.pid))
    reused = replace(unknown, started=process_start(number))
    assert (unknown.is_at_work(), known.is_at_work(), reused.is_at_work()) == (True, True, False)
    other.communicate(b"\n", timeout=30)
    assert (unknown.is_at_work(), known.is_at_work()) == (False, False)
    for none in (0, -1, -number, 2**40):
        assert not Begin(RUN, process=(host, none, token), started=None).is_at_work()
    assert number == os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show it in this way")
def test_a_process_whose_parent_has_not_asked_for_its_end_is_not_at_work() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and its number is still taken
    begun = Begin(RUN, process=(Begin(RUN).process[0], child, ""), started=None)
    assert not begun.is_at_work()
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "logs",
    [
        {"n": 10**30, "small": 1},
        {"text": "half of a pair: \ud800"},
        {"numpy": np.float64(1 / 3)},
        {"yes": True, "nested": {"inf": math.inf, "list": [1, (2, 3)]}, "tiny": 5e-324, "zero": -0.0},
    ],
)
def test_numbers_and_texts_of_any_kind_come_back(logs: dict[str, object]) -> None:
    snapshot = Snapshot(7, "eval", {"a/x": 0.1 + 0.2}, 0.5, 1.5, {"a/x": 2}, {}, logs)
    read = decode(encode(snapshot))
    assert read is not None and {**read.logs} == json.loads(json.dumps(logs).replace("Infinity", "1e999"))
    assert (read.metrics["a/x"], read.epoch) == (0.30000000000000004, 0.5)


def test_lines_of_earlier_versions_are_read() -> None:
    line = (
        b'{"record": "snapshot", "step": 3, "phase": "train", "metrics": {"a/x": 0.5}, "epoch": null, "time": 1.5, '
        b'"counts": {"a/x": 2}, "nonfinite": {}, "logs": {"loss": "NaN"}}\n'
    )
    read = decode(line)
    assert isinstance(read, Snapshot) and (read.step, dict(read.metrics)) == (3, {"a/x": 0.5})
    assert math.isnan(read.logs["loss"])


def test_logs_of_kinds_that_json_does_not_know_are_texts() -> None:
    class Choice(Enum):
        FIRST = 1

    @dataclass
    class Found:
        x: float

    day = datetime.datetime(2024, 1, 2, 3, 4, 5)
    snapshot = Snapshot(7, logs={"choice": Choice.FIRST, "found": Found(math.nan), "day": day, "none": None})
    read = decode(encode(snapshot))
    assert read is not None
    texts = {"choice": str(Choice.FIRST), "found": str(Found(math.nan)), "day": str(day), "none": None}
    assert {**read.logs} == texts


@pytest.mark.parametrize("changed", [{"epoch": math.nan}, {"epoch": math.inf}, {"metrics": {"x": -math.inf}}])
def test_what_is_not_finite_comes_back_wherever_it_stands(changed: dict[str, object]) -> None:
    snapshot = replace(Snapshot(7, "eval", {"a/x": 0.5}, 0.5, 1.5, {"a/x": 2}), **changed)  # type: ignore[arg-type]
    assert repr(decode(encode(snapshot))) == repr(snapshot)
    json.loads(encode(snapshot), parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_numbers_of_numpy_are_numbers() -> None:
    snapshot = Snapshot(np.int64(7), "eval", {"a/x": np.float32(0.5)}, np.float32(0.5), 1.5, {"a/x": np.int32(2)})
    read = decode(encode(snapshot))
    assert read == Snapshot(7, "eval", {"a/x": 0.5}, 0.5, 1.5, {"a/x": 2})
