"""The W&B sink with the real client, offline. The tests read the run files record by record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import wandb
from helpers.wandb_client import end_wandb_client
from helpers.wandb_file import read_runs
from helpers.wandb_server import WandbServer, wandb_server

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.errors import NoSuchRun, NotReady
from mtask_sinks.note import Note
from mtask_sinks.sinks import WandbSink
from mtask_sinks.sinks.wandb_rows import WrittenRows, at_end, hidden_columns

pytestmark = pytest.mark.usefixtures("wandb_dir")


def write(sink: WandbSink, run: RunInfo, *snapshots: Snapshot, status: str = "finished") -> None:
    sink.open(run)
    for snapshot in snapshots:
        sink.write(snapshot)
    sink.close(status)  # type: ignore[arg-type]


def rows(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in history]


def test_each_snapshot_is_a_row_with_its_step(wandb_dir: Path) -> None:
    snapshots = [Snapshot(step=s, metrics={"mlm/loss": s / 3, "lr": 0.5}) for s in (1, 2, 5)]
    write(WandbSink(), RunInfo(id="1"), *snapshots)
    (run,) = read_runs(wandb_dir)
    assert rows(run.history) == [{"mlm/train/loss": s / 3, "train/lr": 0.5, "train/global_step": s} for s in (1, 2, 5)]


def test_a_run_of_its_own_has_name_parameters_logs_and_an_end(wandb_dir: Path) -> None:
    write(
        WandbSink(),
        RunInfo(id="1", name="first", params={"learning_rate": 0.1}),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0, "epoch": 0.5}),
        Snapshot(step=1, phase="eval", metrics={"a/x": 3.0}, logs={"eval_loss": 4.0}),
    )
    (run,) = read_runs(wandb_dir)
    assert (run.name, run.exit_code, run.config["learning_rate"]) == ("first", 0, 0.1)
    assert rows(run.history) == [
        {"a/train/x": 1.0, "train/loss": 2.0, "train/epoch": 0.5, "train/global_step": 1},
        {"a/eval/x": 3.0, "eval/loss": 4.0, "train/global_step": 1},
    ]


def test_each_group_of_charts_has_the_step_as_its_x_axis_also_in_a_run_of_the_users(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    write(
        WandbSink(),
        RunInfo(id="1", attached={"wandb": theirs.id}),
        Snapshot(step=1, metrics={"mlm/loss": 1.0, "lr": 0.5}),
        Snapshot(step=1, phase="eval", metrics={"mlm/loss": 1.0, "nsp/box/l1": 2.0}),
    )
    theirs.finish()
    (run,) = read_runs(wandb_dir)
    step = "train/global_step"
    assert run.axes == {step: "", "mlm/*": step, "train/*": step, "nsp/*": step}


def test_a_failed_training_ends_with_a_non_zero_exit(wandb_dir: Path) -> None:
    write(WandbSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}), status="failed")
    (run,) = read_runs(wandb_dir)
    assert run.exit_code == 1


def test_attached_it_leaves_the_run_open_and_what_others_log_to_them(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    theirs.log({"train/loss": 9.0, "train/global_step": 1})
    write(
        WandbSink(),
        RunInfo(id="1", params={"p": 1}, attached={"wandb": theirs.id}, logged=frozenset({"wandb"})),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 9.0}),
        Snapshot(step=1, phase="eval", metrics={"a/x": 2.0}),
    )
    assert wandb.run is theirs
    theirs.log({"train/loss": 8.0, "train/global_step": 2})
    theirs.finish()
    (run,) = read_runs(wandb_dir)
    assert rows(run.history) == [
        {"train/loss": 9.0, "train/global_step": 1},
        {"a/train/x": 1.0, "train/global_step": 1},
        {"a/eval/x": 2.0, "train/global_step": 1},
        {"train/loss": 8.0, "train/global_step": 2},
    ]
    assert "p" not in run.config


def test_a_run_to_which_another_process_writes_is_an_error_of_opening() -> None:
    with pytest.raises(RuntimeError, match="another process writes to the W&B run abc"):
        WandbSink().open(RunInfo(id="1", attached={"wandb": "abc"}, continued={"wandb": "abc"}))


def test_the_users_run_stays_the_sinks_run_when_the_user_opens_another_one(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    sink, run = WandbSink(), RunInfo(id="1", attached={"wandb": theirs.id})
    write(sink, run, Snapshot(step=1, metrics={"a/x": 1.0}))
    other = wandb.init(project="p", reinit="create_new")
    write(sink, run, Snapshot(step=2, metrics={"a/x": 2.0}))
    theirs.log({"mine": 3.0})
    theirs.finish()
    other.finish()
    found = {run.run_id: rows(run.history) for run in read_runs(wandb_dir)}
    assert [row.get("a/train/x", row.get("mine")) for row in found[theirs.id]] == [1.0, 2.0, 3.0]
    assert found[other.id] == []


@pytest.mark.parametrize("entity", ["us", None])
def test_another_process_continues_the_users_run_in_its_project(entity: str | None, wandb_dir: Path) -> None:
    theirs = wandb.init(project="prices", entity=entity)
    first = WandbSink()
    write(first, RunInfo(id="1", attached={"wandb": theirs.id}), Snapshot(step=1, metrics={"a/x": 1.0}))
    theirs.finish()
    write(
        WandbSink("other"), RunInfo(id="1", continued={"wandb": first.target()}), Snapshot(step=2, metrics={"a/x": 2.0})
    )
    before, after = read_runs(wandb_dir)
    assert (before.run_id, before.place) == (after.run_id, after.place) == (theirs.id, (entity or "", "prices"))
    assert [row["a/train/x"] for run in (before, after) for row in run.history] == [1.0, 2.0]


def test_a_run_of_an_earlier_process_is_continued_offline_if_the_users_run_is_offline(
    wandb_dir: Path, monkeypatch
) -> None:
    end_wandb_client()  # it reads the environment only once
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_DIR")
    (wandb_dir / "mine").mkdir()
    theirs = wandb.init(project="p", mode="offline", dir=wandb_dir / "mine")
    sink = WandbSink()
    write(sink, RunInfo(id="1", continued={"wandb": "us/p/earlier"}), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert sink.environment()["WANDB_MODE"] == "offline"
    theirs.finish()
    found = {run.run_id: run for run in read_runs(wandb_dir / "mine")}
    assert rows(found["earlier"].history) == [{"a/train/x": 1.0, "train/global_step": 1}]


def test_a_run_known_by_its_id_alone_is_opened_again_in_its_project(wandb_dir: Path) -> None:
    theirs = wandb.init(project="prices", entity="us")
    sink = WandbSink()
    sink.open(RunInfo(id="1", attached={"wandb": theirs.id}))
    theirs.finish()
    sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))
    sink.close("finished")
    assert [each.place for each in read_runs(wandb_dir)] == [("us", "prices")] * 2


def test_trainings_that_share_a_run_are_told_apart(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    first, second = WandbSink(), WandbSink()

    def part(training: str, step: int = 0) -> RunInfo:
        return RunInfo(id=training, step=step, attached={"wandb": theirs.id})

    write(first, part("1"), *steps(1, 2, of=1.0))
    write(second, part("2"), *steps(1, 2, of=2.0))
    write(first, part("1"), *steps(2, of=3.0, phase="eval"))  # an evaluation after both
    write(WandbSink(), part("3", step=2), *steps(3, of=4.0))  # a resume of the second
    theirs.finish()
    (run,) = read_runs(wandb_dir)
    columns = ("train/training", "train/global_step", "a/train/x", "a/eval/x")
    assert [{name: row[name] for name in columns if name in row} for row in run.history] == [
        {"train/global_step": 1, "a/train/x": 1.0},
        {"train/global_step": 2, "a/train/x": 1.0},
        {"train/training": 2, "train/global_step": 1, "a/train/x": 2.0},
        {"train/training": 2, "train/global_step": 2, "a/train/x": 2.0},
        {"train/global_step": 2, "a/eval/x": 3.0},
        {"train/training": 2, "train/global_step": 3, "a/train/x": 4.0},
    ]


def test_the_rest_of_a_training_joins_the_row_of_its_totals(wandb_dir: Path) -> None:
    rest = Snapshot(step=7, metrics={"a/x": 1.0}, is_partial=True)
    write(WandbSink(), RunInfo(id="1"), rest, Snapshot(step=7, logs={"train_loss": 0.5, "epoch": 1.0}))
    write(WandbSink(), RunInfo(id="2"), rest)
    joined = sorted((rows(run.history) for run in read_runs(wandb_dir)), key=lambda found: len(found[0]))
    assert joined == [
        [{"a/train/x": 1.0, "train/global_step": 7}],
        [{"a/train/x": 1.0, "train/epoch": 1.0, "train/global_step": 7}],
    ]


def test_if_the_last_row_is_unsure_the_partial_window_in_it_is_unsure_too() -> None:
    rest, totals = Snapshot(step=7, sequence=4, is_partial=True), Snapshot(step=7, sequence=5)
    summary = hidden_columns(rest, "1") | hidden_columns(totals, "1")  # W&B makes one row of them
    held = [WrittenRows.read(each, RunInfo(id="1")) for each in (summary, summary | at_end(5, "1"))]
    numbers = [[rows.contains(Snapshot(step=7, sequence=number)) for number in (3, 4, 5)] for rows in held]
    assert numbers == [[True, False, False], [True, True, True]]
    earlier = WrittenRows.read(summary | hidden_columns(Snapshot(step=9, sequence=6), "1"), RunInfo(id="1"))
    assert [earlier.contains(Snapshot(step=9, sequence=number)) for number in (4, 5, 6)] == [True, True, False]


def test_of_a_run_that_wandb_has_disabled_nothing_is_missing(wandb_dir: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    theirs = wandb.init(project="p")
    sink = WandbSink()
    write(sink, RunInfo(id="1", attached={"wandb": theirs.id}), Snapshot(step=1, metrics={"mlm/loss": 1.0}))
    assert sink.survives()


def test_a_run_of_its_own_does_not_take_the_place_of_the_users(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    write(WandbSink("other"), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert wandb.run is theirs
    theirs.finish()
    assert len(read_runs(wandb_dir)) == 2


def test_an_alert_arrives_although_somebody_has_finished_the_run(wandb_dir: Path) -> None:
    theirs, sink = wandb.init(project="p"), WandbSink()
    sink.open(RunInfo(id="1", attached={"wandb": theirs.id}))
    sink.write(Snapshot(step=1, metrics={"a/x": 1.0}))
    theirs.finish()
    sink.note(Note("alert", 1, "a/x is high", {"actions": ["wandb"], "key": "a/x", "rule": "above 0"}))
    sink.close("finished")
    assert [alert for run in read_runs(wandb_dir) for alert in run.alerts] == [("a/x (above 0)", "a/x is high", "WARN")]


@pytest.fixture
def server(wandb_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Provide a server for the client, which writes everything into the run ``r``."""
    with wandb_server() as served:
        for name, value in served.settings("r").items():
            monkeypatch.setenv(name, value)
        yield served
        wandb.finish()


def steps(*values: int, of: float, phase: str = "train") -> list[Snapshot]:
    logs = {"loss": of} if phase == "train" else {}
    return [Snapshot(step=s, phase=phase, metrics={"a/x": of}, logs=logs) for s in values]


def test_a_resumed_run_leaves_out_the_rows_that_are_there(server: WandbServer) -> None:
    write(WandbSink(), RunInfo(id="1", params={"p": 1}), *steps(2, 4, 6, of=1.0), *steps(4, of=1.0, phase="eval"))
    again = [*steps(4, of=2.0), *steps(6, 8, of=3.0), *steps(6, of=3.0, phase="eval")]
    write(WandbSink(), RunInfo(id="2", step=4, params={"p": 2}), *again)
    run = server.runs["r"]
    assert run.points("a/train/x") == [(2, 1.0), (4, 1.0), (6, 1.0), (4, 2.0), (8, 3.0)]
    assert run.points("train/loss") == run.points("a/train/x")
    assert run.points("a/eval/x") == [(4, 1.0), (6, 3.0)]
    assert (run.config["p"], run.exit_code) == (2, 0)


def test_a_resumed_attached_run_writes_a_row_of_which_only_the_others_is_there(server: WandbServer) -> None:
    with wandb.init() as theirs:
        write(WandbSink(), RunInfo(id="1", attached={"wandb": theirs.id}), *steps(4, 6, of=1.0))
        theirs.log({"train/loss": 9.0, "train/global_step": 8})
    with wandb.init() as theirs:
        theirs.log({"train/loss": 9.0, "train/global_step": 6})
        sink, run = WandbSink(), RunInfo(id="2", step=4, attached={"wandb": theirs.id})
        write(sink, run, *steps(6, 8, of=2.0))
        write(sink, run, *steps(8, of=3.0))
    assert server.runs["r"].points("a/train/x") == [(4, 1.0), (6, 1.0), (8, 2.0), (8, 3.0)]


def test_a_training_from_the_start_in_an_earlier_run_leaves_out_nothing(server: WandbServer) -> None:
    write(WandbSink(), RunInfo(id="1"), *steps(2, 4, of=1.0))
    write(WandbSink(), RunInfo(id="2"), *steps(2, 4, of=2.0))
    assert server.runs["r"].points("a/train/x") == [(2, 1.0), (4, 1.0), (2, 2.0), (4, 2.0)]


def test_a_run_that_is_continued_holds_each_row_once_and_is_ended(server: WandbServer) -> None:
    rows = [Snapshot(step=2 * s, metrics={"a/x": 2.0 * s}, sequence=s) for s in (1, 2, 3, 4)]
    with wandb.init() as theirs:
        write(WandbSink(), RunInfo(id="1", attached={"wandb": theirs.id}), *rows[:2])
    for status, code in (("killed", 137), ("finished", 0)):
        write(WandbSink(), RunInfo(id="1", continued={"wandb": "r"}), *rows, status=status)
        assert server.runs["r"].exit_code == code
        assert server.runs["r"].points("a/train/x") == [(s, float(s)) for s in (2, 4, 6, 8)]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (409, "run e/p/gone was previously created and deleted; try a new run name"),
        (403, "permission denied"),
        (404, "entity e not found during upsertBucket"),
    ],
)
def test_a_run_that_the_server_will_not_open_is_no_such_run(status, answer, server: WandbServer, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    server.refused["gone"] = status, answer
    sink = WandbSink()
    for _ in range(2):  # W&B's client does not know the answer when it is asked again
        with pytest.raises(NoSuchRun, match=f"does not open the run gone, .*: {answer}$|: .*HTTP 409: {answer}$"):
            sink.open(RunInfo(id="1", continued={"wandb": "gone"}))
    write(sink, RunInfo(id="2"), *steps(2, of=1.0))
    assert server.runs["r"].points("a/train/x") == [(2, 1.0)]


@pytest.mark.parametrize("run", [RunInfo(id="1"), RunInfo(id="1", continued={"wandb": "r"})])
def test_a_run_with_a_fixed_id_is_opened_when_the_server_is_back(run: RunInfo, server: WandbServer) -> None:
    """If W&B's client has tried to open it before, it does not open it any more in this process."""
    server.stop()
    sink = WandbSink()
    for _ in range(2):
        with pytest.raises(NotReady, match=f"^{server.url} cannot be reached: .*refused"):
            sink.open(run)
    with pytest.raises(NotReady, match="cannot be reached"):
        sink.start_active_run("r")
    server.start()
    write(sink, run, *steps(2, of=1.0))
    assert server.runs["r"].points("a/train/x") == [(2, 1.0)]


def test_a_finished_run_is_opened_again_when_the_server_is_back(server: WandbServer) -> None:
    sink = WandbSink()
    sink.open(RunInfo(id="1"))
    sink.write(*steps(2, of=1.0))
    sink.close("finished")
    server.stop()
    for _ in range(2):
        with pytest.raises(NotReady, match="cannot be reached"):
            sink.open(RunInfo(id="1"))
    server.start()
    write(sink, RunInfo(id="1"), *steps(4, of=2.0))
    assert server.runs["r"].points("a/train/x") == [(2, 1.0), (4, 2.0)]


def test_the_last_row_before_a_kill_is_written_again(server: WandbServer) -> None:
    """The server may have its summary and not the row, as here. If it has the row, there are two equal rows."""
    rows = [Snapshot(step=2 * s, metrics={"a/x": 2.0 * s}, sequence=s) for s in range(1, 7)]
    killed = WandbSink(settings=wandb.Settings(console="off"))  # nobody ends this run, nor what it does to the output
    killed.open(RunInfo(id="1"))
    for row in rows[:5]:
        killed.write(row)
    end_wandb_client()  # ends the client, and not the sink
    run = server.runs["r"]
    del run.history[-1:]
    assert (run.summary["a/train/x"], run.points("a/train/x")[-1]) == (10.0, (8, 8.0))
    for _ in range(2):  # the second replay finds everything there
        write(WandbSink(), RunInfo(id="1", continued={"wandb": "r"}), *rows)
        assert run.points("a/train/x") == [(s, float(s)) for s in (2, 4, 6, 8, 10, 12)]
    again = [Snapshot(step=2 * s, metrics={"a/x": 2.0 * s}, sequence=s - 4) for s in range(5, 9)]
    write(WandbSink(), RunInfo(id="2", step=8), *again)  # resumed from step 8: the rows of 10 and 12 are there
    assert run.points("a/train/x") == [(s, float(s)) for s in (2, 4, 6, 8, 10, 12, 14, 16)]


def test_a_training_that_was_killed_and_resumed_has_every_row(server: WandbServer) -> None:
    rows = [Snapshot(step=s, metrics={"a/x": float(s)}, sequence=s) for s in range(1, 6)]
    killed = WandbSink(settings=wandb.Settings(console="off"))  # nobody ends this run, nor what it does to the output
    killed.open(RunInfo(id="1"))
    for row in rows:
        killed.write(row)
    end_wandb_client()
    run = server.runs["r"]
    del run.history[-1:]
    write(
        WandbSink(),
        RunInfo(id="2", step=2),
        *(Snapshot(s, metrics={"a/x": float(s)}, sequence=s - 2) for s in (3, 4, 5, 6)),
    )
    assert run.points("a/train/x") == [(s, float(s)) for s in range(1, 7)]


@pytest.mark.parametrize("behind", [600.0, -600.0])
def test_a_resume_on_a_machine_with_another_clock_drops_nothing_and_repeats_nothing(
    server: WandbServer, behind: float
) -> None:
    def of(steps: range, clock: float) -> list[Snapshot]:
        return [Snapshot(s, metrics={"a/x": float(s)}, time=clock + s, sequence=s - steps[0] + 1) for s in steps]

    write(WandbSink(), RunInfo(id="1"), *of(range(1, 21), 1000.0))
    resumed = of(range(19, 41), 1000.0 - behind)  # from a checkpoint at 18: two steps are computed twice
    write(WandbSink(), RunInfo(id="2", step=18), *resumed[:12])
    write(WandbSink(), RunInfo(id="2", step=18, continued={"wandb": "r"}), *resumed)  # a replay by a third machine
    assert server.runs["r"].points("a/train/x") == [(s, float(s)) for s in range(1, 41)]


def test_a_resume_repeats_no_row_although_it_first_delivers_the_beginning_of_the_earlier_training_again(
    server: WandbServer,
) -> None:
    rows = [Snapshot(step=s, metrics={"a/x": float(s)}, sequence=s) for s in range(1, 7)]
    write(WandbSink(), RunInfo(id="1"), *rows)
    write(WandbSink(), RunInfo(id="1", continued={"wandb": "r"}), *rows[:2])  # up to the checkpoint
    again = [Snapshot(step=s, metrics={"a/x": float(s)}, sequence=s - 2) for s in range(3, 9)]
    write(WandbSink(), RunInfo(id="2", step=2), *again)
    assert server.runs["r"].points("a/train/x") == [(s, float(s)) for s in range(1, 9)]


def test_two_evaluations_of_one_step_are_two_rows_also_in_a_replay(server: WandbServer) -> None:
    evaluations = [Snapshot(8, "eval", metrics={"a/x": value}, sequence=int(value)) for value in (1.0, 2.0, 3.0)]
    write(WandbSink(), RunInfo(id="1", step=4), *evaluations[:2])
    write(WandbSink(), RunInfo(id="1", step=4, continued={"wandb": "r"}), *evaluations)
    assert server.runs["r"].points("a/eval/x") == [(8, 1.0), (8, 2.0), (8, 3.0)]


def test_the_trainers_totals_are_in_the_summary_and_in_no_row(wandb_dir: Path) -> None:
    totals = {"train_runtime": 1.5, "train_loss": 0.5}
    write(WandbSink(), RunInfo(id="1"), Snapshot(step=4, metrics={"a/x": 1.0}, logs={**totals, "epoch": 2.0}))
    (run,) = read_runs(wandb_dir)
    assert {name: run.summary[name] for name in totals} == totals
    assert rows(run.history) == [{"a/train/x": 1.0, "train/epoch": 2.0, "train/global_step": 4}]


def test_nan_and_infinity_are_kept(wandb_dir: Path) -> None:
    write(WandbSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/n": float("nan"), "a/i": float("inf")}))
    (run,) = read_runs(wandb_dir)
    (row,) = rows(run.history)
    assert np.isnan(float(row["a/train/n"]))
    assert float(row["a/train/i"]) == np.inf


def test_another_process_finds_the_project_that_was_given(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "of the environment")
    given = WandbSink("mine", entity="us", mode="online").environment()
    assert given == {"WANDB_PROJECT": "mine", "WANDB_ENTITY": "us", "WANDB_MODE": "online"}
    assert WandbSink().environment() == {"WANDB_PROJECT": "of the environment", "WANDB_MODE": "offline"}


def test_an_argument_that_wandb_does_not_have_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"wandb\.init has no argument 'projet'\. Did you mean 'project'\?"):
        WandbSink(projet="mine")
