"""However a training ends, everything that can be delivered is delivered, and the run shows how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from helpers.faulty import LIMIT, wait_for
from helpers.processes import FORKSERVER, STARTED, TrainingProcess
from helpers.stuck import get_stuck
from helpers.toy import InOrder, Toy, arguments, numbers, points, rows
from mlflow import MlflowClient
from transformers import TrainerCallback

from mtask_sinks import Alert, HfMultiTaskTrainer, SinkArguments, read_journal
from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.sinks import MemorySink, MLflowSink
from mtask_sinks.trainer.sigterm import Terminated, raising_on_sigterm


class Ours(InOrder, HfMultiTaskTrainer):
    pass


class Does(TrainerCallback):
    """Does something at the end of the third step."""

    def __init__(self, what) -> None:
        self.what = what

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.what()


def made(path, what, *sinks, **others) -> Ours:
    return Ours(
        Toy(), arguments(path, logging_steps=1), train_dataset=numbers(1, 2, 3, 4), callbacks=[Does(what)],
        sinks=sinks, **others,
    )  # fmt: skip


def raises(error: BaseException):
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), SystemExit(3), ValueError("mine")])
def test_what_ends_a_training_passes_through_and_the_run_has_failed(tmp_path, error) -> None:
    sink = MemorySink()
    with pytest.raises(type(error)):
        made(tmp_path, raises(error), sink).train()
    assert sink.series("a/loss") == [(1, 1.0), (2, 2.0)]
    assert sink.closed == ["failed"]
    (run,) = read_journal(tmp_path)
    assert (run.status, [each.step for each in run.snapshots]) == ("failed", [1, 2])


def test_ctrl_c_while_the_first_row_opens_the_run_loses_no_row(tmp_path) -> None:
    class Config:
        def to_dict(self):  # called for the parameters of the run
            signal.raise_signal(signal.SIGINT)
            return {}

    sink = MemorySink()
    trainer = made(tmp_path, lambda: None, sink)
    trainer.model.config = Config()
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert rows(trainer, "a/loss") == points(trainer, "a/loss") == sink.series("a/loss") == [(1, 1.0)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_action_of_an_alert_that_ends_the_program_loses_neither_the_row_nor_the_alert(tmp_path, error) -> None:
    sink = MemorySink()
    alert = Alert("a/loss", above=1.5, action=lambda event: raises(error)())
    trainer = made(tmp_path, lambda: None, sink, alerts=[alert])
    with pytest.raises(type(error)):
        trainer.train()
    assert rows(trainer, "a/loss") == points(trainer, "a/loss") == sink.series("a/loss") == [(1, 1.0), (2, 2.0)]
    (run,) = read_journal(tmp_path)
    assert [(note.kind, note.step) for note in run.notes] == [("alert", 2)]


@pytest.mark.parametrize(
    ("number", "expectation"),
    [(signal.SIGINT, nullcontext()), (signal.SIGTERM, pytest.raises(Terminated))],  # after Ctrl-C the script goes on
)
def test_a_signal_while_it_waits_for_a_sink_ends_the_wait_and_says_what_is_missing(
    tmp_path, caplog, number, expectation
) -> None:
    released, pressed = threading.Event(), threading.Event()

    class Hangs(MemorySink):
        def write(self, snapshot):
            while "waits up to" not in caplog.text and not released.is_set():
                time.sleep(0.01)
            if not released.is_set():
                # Once, and to the thread that waits: it would notice a signal to another thread only after its wait.
                if not pressed.is_set():
                    pressed.set()
                    main = threading.main_thread().ident
                    # A signal in the middle of logging that message may leave a handler of the log locked.
                    while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
                        time.sleep(0.01)
                    time.sleep(0.1)  # a signal just before the system call of that wait would not end it
                    signal.pthread_kill(main, number)
                released.wait(60)

    trainer = made(tmp_path, lambda: None, Hangs(), sink_args=SinkArguments(drain_seconds=1000.0))
    try:
        with expectation:
            trainer.train()
    finally:
        released.set()
    assert "To deliver them, run in Python: " in caplog.text
    assert "within 1000 s" not in caplog.text
    (run,) = read_journal(tmp_path)
    assert (run.status, [each.step for each in run.snapshots if each.phase == "train"]) == ("finished", [1, 2, 3, 4])


class Wordless(OSError):
    def __str__(self) -> str:
        raise UnicodeError("no text today")


class Broken(MemorySink):
    """Fails, and so does what it says about itself."""

    def write(self, snapshot) -> None:
        raise Wordless

    def environment(self):
        raise KeyError("HOME")


class Odd(MemorySink):
    """Fails, and returns variables that are no texts."""

    name = "odd"

    def write(self, snapshot) -> None:
        raise OSError("down")

    def environment(self):
        return {1: None}


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        (
            Broken,
            "sink memory (down, Wordless: (it has no text)) received 0 of 5 snapshots; 5 did not arrive within 0.1 s.",
        ),
        (Odd, "sink odd (down, OSError: down) received 0 of 5 snapshots; 5 did not arrive within 0.1 s."),
    ],
)
def test_a_sink_that_fails_in_every_way_raises_nothing_out_of_the_training(tmp_path, caplog, sink, said) -> None:
    def wait_until_it_is_down() -> None:
        wait_for(lambda: trainer.sink_counts[broken.name].state == "down", "three failures of the sink")

    broken = sink()
    trainer = made(tmp_path, wait_until_it_is_down, broken, sink_args=SinkArguments(drain_seconds=0.1))
    trainer.train()
    broken.write = lambda snapshot: None  # so that its thread ends
    assert said in caplog.text
    assert str(tmp_path / "metrics.jsonl") in caplog.text
    assert trainer.state.global_step == 4
    (run,) = read_journal(tmp_path)
    assert run.status == "finished"


@pytest.mark.parametrize("uri", ["http://[::1:5000", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_raises_nothing_out_of_the_training(tmp_path, monkeypatch, caplog, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    args = arguments(tmp_path, logging_steps=1, report_to=["mlflow"])
    # With the address in the sink: its thread goes on to try after this test, and must not find another store then.
    sinks, settings = [MLflowSink(uri)], SinkArguments(drain_seconds=1.0)
    trainer = Ours(Toy(), args, train_dataset=numbers(1, 2, 3, 4), sinks=sinks, sink_args=settings)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.sink_counts["mlflow"].pending == 5
    assert "--to mlflow" in caplog.text
    assert [run.status for run in read_journal(tmp_path)] == ["finished"]


def test_a_sinks_thread_that_dies_is_said_and_counted_and_begins_anew_with_the_next_training(
    tmp_path, caplog, monkeypatch
) -> None:
    sink = MemorySink()
    trainer = made(tmp_path, lambda: None, sink, sink_args=SinkArguments(drain_seconds=1000.0))
    mark_ended, is_said = Worker._mark_ended, []
    with monkeypatch.context() as broken:
        broken.setattr(Worker, "_next_items", lambda worker, retrying: 1 / 0)
        broken.setattr(Worker, "_mark_ended", lambda w: (is_said.append("has stopped" in caplog.text), mark_ended(w)))
        trainer.train()
    assert is_said and all(is_said)  # before the training goes on, and perhaps the process ends
    counts = trainer.sink_counts["memory"]
    assert (counts.state, counts.delivered, counts.pending) == ("stopped", 0, 5)
    assert counts.error == "ZeroDivisionError: division by zero"
    assert "sink memory has stopped (ZeroDivisionError: division by zero); training goes on." in caplog.text
    assert "1 / 0" in caplog.text  # the traceback
    assert f"replay({str(tmp_path / 'metrics.jsonl')!r}, [the memory sink])" in caplog.text
    trainer.train()
    counts = trainer.sink_counts["memory"]
    assert (counts.state, counts.error, counts.delivered, counts.pending) == ("closed", None, 10, 0)


def test_sigterm_ends_a_training_as_an_exception_would_and_then_the_process(tmp_path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    environment = {"MLFLOW_TRACKING_URI": store}
    training = TrainingProcess(tmp_path / "out", environment, hold_at=3, report_to=["mlflow", "tensorboard"])
    training.wait_for_step(3)
    os.kill(training._process.pid, signal.SIGTERM)
    training.finish(expect=128 + signal.SIGTERM)
    client = MlflowClient(store)
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "a/train/loss")] == [(1, 1), (2, 2)]
    assert [each.status for each in read_journal(tmp_path / "out")] == ["failed"]


def test_a_training_runs_where_the_system_cannot_watch_for_sigterm(tmp_path, monkeypatch) -> None:
    for module, name in ((signal, "pthread_kill"), (os, "set_blocking")):  # Windows, the second before Python 3.12
        monkeypatch.delattr(module, name, raising=False)
    sink = MemorySink()
    made(tmp_path, lambda: signal.getsignal(signal.SIGTERM) is signal.SIG_DFL or 1 / 0, sink).train()
    assert [snapshot.metrics["a/loss"] for snapshot in sink.snapshots if snapshot.phase == "train"] == [1, 2, 3, 4]


@pytest.mark.parametrize("block", [nullcontext, InterruptsDeferred])  # the second: while it writes a row
def test_sigterm_ends_a_process_whose_main_thread_is_stuck(block) -> None:
    pipe, theirs = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=get_stuck, args=(theirs, block), daemon=True)
    process.start()
    theirs.close()  # else nothing would end the wait for a process that has died
    try:
        assert pipe.poll(STARTED)
        assert pipe.recv() == "ready"
        process.terminate()
        assert pipe.poll(LIMIT)
        assert pipe.recv() == "noticed"
        process.join(LIMIT)
        assert process.exitcode == 128 + signal.SIGTERM
    finally:
        process.kill()


_WITH_CHILDREN = """
import os, signal, sys, time

if sys.argv[1] == "child terminated in the fork":
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
from mtask_sinks.trainer import sigterm

def step():  # a main thread that stays in one place, instead of in such calls, counts as stuck
    time.sleep(0.01)

def exit_code():
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        step()
    return os.waitstatus_to_exitcode(found[1])

sigterm._STUCK_SECONDS = 0.5
child = 0
reader, writer = os.pipe()
with sigterm.raising_on_sigterm(lambda: print("ended by force", flush=True)):
    if sys.argv[1] == "own handler":
        signal.signal(signal.SIGTERM, lambda *_: print("noted"))
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        child = os.fork()
        if not child and sys.argv[1] == "child that leaves too":
            sys.exit(7)
        if not child and sys.argv[1] == "terminated child that forks":
            signal.signal(signal.SIGTERM, lambda *_: os._exit(8))
            if not os.fork():
                os._exit(0)
        if not child:
            os.write(writer, b"-")
            for _ in range(6000):  # not one long call: a signal just before its system call would not end it
                step()
    if sys.argv[1] == "child that leaves too":
        print("exit code", exit_code())
        child = 0
    if sys.argv[1].startswith("terminated child"):
        os.read(reader, 1)  # Python forgets signals that a process gets in its first moment
        os.kill(child, signal.SIGTERM)
    if "terminated" in sys.argv[1]:
        print("exit code", exit_code())
        child = 0
    for _ in range(200 if "fork" in sys.argv[1] else 100):  # until the watch gives up, if it has seen the signal
        step()
print("over")
if child:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("child that lives on", ["over"]),  # such as a data-loader worker, which an exception's traceback keeps
        ("terminated child", ["exit code -15", "over"]),  # such as those of multiprocessing.Pool
        ("terminated child that forks", ["exit code 8", "over"]),  # and handles SIGTERM itself
        ("child terminated in the fork", ["exit code -15", "over"]),  # before anything of ours runs in it
        ("child that leaves too", ["exit code 7", "over"]),
        ("own handler", ["noted", "over"]),
    ],
)
def test_children_and_handlers_of_the_user_neither_hold_up_nor_end_a_training(case: str, expected: list[str]) -> None:
    command = [sys.executable, "-c", _WITH_CHILDREN, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.returncode) == (expected, 0), done.stderr


_TWICE = """
import os, signal, sys
from mtask_sinks.trainer.sigterm import Terminated, raising_on_sigterm

def second_at(place):
    def profile(frame, event, arg):
        nonlocal place
        while frame is not None and frame.f_code.co_name != "handler":
            frame = frame.f_back
        place -= frame is not None
        if frame is not None and place == 0:
            os.kill(os.getpid(), signal.SIGTERM)
    return profile

for place in range(1, 20):
    try:
        with raising_on_sigterm(lambda: print("ended by force", flush=True)):
            sys.setprofile(second_at(place))
            os.kill(os.getpid(), signal.SIGTERM)
    except Terminated:
        sys.setprofile(None)
        print("terminated", flush=True)
"""


def test_a_second_sigterm_while_the_first_is_handled_holds_up_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _TWICE], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["terminated"] * 19, 0), done.stderr


_HELD_UP = """
import itertools, os, signal, time
from types import SimpleNamespace
from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks.trainer import sigterm

sigterm.time = SimpleNamespace(sleep=time.sleep, monotonic=itertools.count(0, 60).__next__)
try:
    with sigterm.raising_on_sigterm(lambda: print("ended by force", flush=True)), InterruptsDeferred():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
except sigterm.Terminated:
    print("terminated")
"""


def test_a_process_that_runs_only_for_a_moment_per_minute_is_not_stuck() -> None:
    done = subprocess.run([sys.executable, "-c", _HELD_UP], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["terminated"], 0), done.stderr


_DROPPED = """
import os, signal, sys, time, weakref
from mtask_sinks.trainer.sigterm import raising_on_sigterm

class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

class Other: pass

with raising_on_sigterm(lambda: print("ended by force", flush=True)):
    if sys.argv[1] == "destructor":
        Thing()
    elif sys.argv[1] == "destructor, then another signal":  # such as that of a data loader's worker that has ended
        signal.signal(signal.SIGCHLD, lambda *_: None)
        Thing()
        os.kill(os.getpid(), signal.SIGCHLD)
    elif sys.argv[1] == "weak reference":
        other = Other()
        reference = weakref.ref(other, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del other
    else:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            pass
    print("dropped", flush=True)
    for _ in range(300):
        time.sleep(0.1)
    print("went on")
"""


@pytest.mark.parametrize("place", ["destructor", "destructor, then another signal", "weak reference", "except"])
def test_sigterm_ends_a_training_also_where_python_or_other_code_drops_its_exception(place: str) -> None:
    done = subprocess.run([sys.executable, "-c", _DROPPED, place], capture_output=True, text=True, timeout=200)
    assert (done.stdout.split(), done.returncode) == (["dropped"], 128 + signal.SIGTERM), done.stderr


@pytest.mark.parametrize("way", ["stops", "raises"])
def test_code_that_makes_an_end_of_its_own_out_of_sigterm_is_not_disturbed(tmp_path, way) -> None:
    class Slow(MemorySink):
        def write(self, snapshot) -> None:
            time.sleep(0.3)
            super().write(snapshot)

    class Ends(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                try:
                    signal.raise_signal(signal.SIGTERM)
                except SystemExit:
                    control.should_training_stop = way == "stops"
                if way == "raises":
                    raise ValueError("mine")

        def on_train_end(self, args, state, control, **kwargs):
            time.sleep(0.3)  # such as for a last checkpoint

    sink = Slow()
    trainer = made(tmp_path, lambda: None, sink)
    trainer.add_callback(Ends())
    with nullcontext() if way == "stops" else pytest.raises(ValueError, match="mine"):
        trainer.train()
    steps = [1, 2, 3] if way == "stops" else [1, 2]
    assert sink.series("a/loss")[: len(steps)] == [(step, float(step)) for step in steps]
    assert sink.closed == ["finished" if way == "stops" else "failed"]


def test_an_error_in_a_training_with_data_loader_workers_is_raised(tmp_path) -> None:
    script = f"""
from helpers.toy import Toy, arguments, numbers
from transformers import TrainerCallback
from mtask_sinks import HfMultiTaskTrainer

class Fails(TrainerCallback):
    def on_step_end(self, *_, **__):
        raise ZeroDivisionError("mine")

args = arguments({str(tmp_path)!r}, dataloader_num_workers=2, logging_steps=1)
trainer = HfMultiTaskTrainer(Toy(), args, train_dataset=numbers(*range(64)), callbacks=[Fails()])
try:
    trainer.train()
except ZeroDivisionError as error:
    print("raised", error)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environment, check=True
    )
    assert "raised mine" in done.stdout


def test_sigterm_is_as_it_was_before_and_after_and_somebody_elses_handler_stays(tmp_path) -> None:
    during = []
    made(tmp_path, lambda: during.append(signal.getsignal(signal.SIGTERM))).train()
    assert during[0] is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def mine(number, frame) -> None: ...

    signal.signal(signal.SIGTERM, mine)
    try:
        made(tmp_path, lambda: during.append(signal.getsignal(signal.SIGTERM))).train()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert during[1] is mine


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with raising_on_sigterm(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_sigterm_raises_in_the_main_thread() -> None:
    code = None
    try:
        with raising_on_sigterm(lambda: os._exit(9)):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
    except Terminated as raised:
        code = raised.code
    assert code == 143


def test_workers_of_a_data_loader_deliver_nothing_and_end(tmp_path) -> None:
    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return numbers(index + 1)[0]

    sink = MemorySink()
    args = arguments(tmp_path, logging_steps=1, dataloader_num_workers=2)
    trainer = Ours(Toy(), args, train_dataset=Items(), eval_dataset=Items(), sinks=[sink])
    trainer.train()
    trainer.evaluate()
    trainer._session.delivery.close("finished")
    assert sink.series("a/loss") == [(s, float(s)) for s in range(1, 9)]
    assert [(run.status, len(run.snapshots)) for run in read_journal(tmp_path)] == [("finished", 10)]
