"""Real processes with gloo, started by torchrun and by accelerate. NumPy computes the expected values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.ports import unused_port
from helpers.rank_job import FIRST_ENTRIES, REDUCERS, reports

from mtask_sinks import report_metrics, weighted
from mtask_sinks.testing import MetricRanks

pytestmark = pytest.mark.long

JOB = Path(__file__).parents[1] / "helpers" / "rank_job.py"


def run(out: Path, launcher: list[str], scenarios: list[str]) -> Path:
    command = [sys.executable, "-m", *launcher, str(JOB), str(out), *scenarios]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, cwd=out)
    assert (out / f"{scenarios[-1]}-0.json").exists(), done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    trainings = ["trainer", "padding", "evaluations", "resume", "epochs", "phases"]
    return run(
        tmp_path_factory.mktemp("two"),
        launcher,
        ["registry", "conflict", "fsdp", *trainings, "captures", "death"],
    )


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    plain = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    ranks = ["--num_processes", "4", "--main_process_port", str(unused_port())]
    launcher = ["accelerate.commands.launch", *plain, *ranks]
    return run(tmp_path_factory.mktemp("four"), launcher, ["trainer", "registry", "replicas", "conflict"])


@pytest.fixture(params=[2, 4], ids=["two", "four"])
def job(request):
    return request.getfixturevalue({2: "two", 4: "four"}[request.param]), request.param


def results(job, scenario):
    """Return what each rank wrote."""
    out, size = job
    return [json.loads((out / f"{scenario}-{rank}.json").read_text()) for rank in range(size)]


def without_times(row):
    return {name: value for name, value in row.items() if "per_second" not in name and "runtime" not in name}


def flat(size, step):
    """Compute the metrics of one window of the scenario `registry` from one plain list of all its reports."""
    everything = [
        (task, batch, rank, value, weight)
        for batch in range(3)
        for rank in range(size)
        for task, value, weight in reports(rank, step, batch)
    ]
    metrics = {}
    for task in {entry[0] for entry in everything}:
        entries = [entry[1:] for entry in everything if entry[0] == task]
        values, weights = np.array([entry[2] for entry in entries]), np.array([entry[3] for entry in entries])
        mean = (weights @ values) / weights.sum()
        metrics |= {
            f"{task}/mean": mean,
            f"{task}/sum": weights @ values,
            f"{task}/count": len(values),
            f"{task}/min": values.min(),
            f"{task}/max": values.max(),
            f"{task}/first": values[0],
            f"{task}/last": min(entries, key=lambda entry: (-entry[0], entry[1]))[2],
            f"{task}/std": np.sqrt(weights @ (values - mean) ** 2 / weights.sum()),
            f"{task}/median": np.median(values),
        }
    own = [
        np.mean([value for task, _, there, value, _ in everything if (task, there) == ("all", r)]) for r in range(size)
    ]
    return metrics | {"all/mean.rank_min": min(own), "all/mean.rank_max": max(own)}


def test_every_reducer_is_right_over_ragged_ranks(job) -> None:
    everyones = results(job, "registry")
    for step in range(4):
        assert everyones[0][step]["metrics"] == pytest.approx(flat(job[1], step), rel=1e-12)
        assert all(rows[step]["metrics"] == everyones[0][step]["metrics"] for rows in everyones)


def test_simulated_ranks_give_what_real_ones_give(job) -> None:
    size = job[1]
    ranks = MetricRanks(size, reducers=REDUCERS, spread="all/mean")
    names = [pattern[2:] for pattern in REDUCERS]
    for step, real in enumerate(results(job, "registry")[0]):
        for batch in range(3):

            def micro_batch(rank, step=step, batch=batch):
                for task, value, weight in reports(rank, step, batch):
                    report_metrics(task, **{name: weighted(value, weight) for name in names})

            ranks.run(micro_batch)
        assert dict(ranks.snapshot(step).metrics) == pytest.approx(real["metrics"], rel=1e-12)


def test_collectives_are_two_and_one_for_values_whatever_is_reported(job) -> None:
    for rows in results(job, "registry"):
        assert all(row["before"] == {} for row in rows)  # no collective between log events
        steady = {"all_reduce": 2, "all_gather": 1}  # the medians need all values
        with_new_keys = {"all_reduce": 3, "all_gather": 1, "all_gather_object": 1}
        assert [row["collectives"] for row in rows] == [with_new_keys, steady, with_new_keys, steady]


def test_a_conflict_is_an_error_on_every_rank_and_the_group_works_on(job) -> None:
    everyones = results(job, "conflict")
    assert all(theirs == everyones[0] for theirs in everyones)
    text, total = everyones[0]
    assert "MetricRegistry(reducers=...) differs between ranks: on rank 0 it is {'a/x': 'mean'}, on rank 1" in text
    assert total == job[1]


def test_replicas_of_the_data_do_not_count_twice(four) -> None:
    assert results((four, 4), "replicas") == [{"a/x": 3.0}] * 4


def test_modules_in_fsdp_units_report(two) -> None:
    everyones = results((two, 2), "fsdp")
    assert everyones[0] == everyones[1]
    first, second = (np.array(tensor) for tensor in everyones[0]["weights"][::2])
    one, other = (np.array(tensor) for tensor in everyones[0]["weights"][1::2])
    outs = []
    for rank in range(2):
        x = np.arange(4.0 * (rank + 1)).reshape(-1, 4) / 10
        hidden = x @ first.T + one
        outs += [hidden, hidden @ second.T + other]
    expected = {"block/out": np.concatenate([out.ravel() for out in outs]).mean(), "block/n": 6.0}
    assert everyones[0]["metrics"] == pytest.approx(expected, rel=1e-5)


def test_a_pattern_of_capture_that_matched_on_another_rank_is_not_named(two) -> None:
    first, second = results((two, 2), "captures")
    assert first["idle"] == [f"capture: no output of the model matched '{name}'" for name in ("of_rank_2", "of_r")]
    assert second["idle"] == []
    by_path, by_task = first["found"]
    assert by_path == {"parts/of_rank_0": 2.0, "parts/of_rank_1": 3.0}  # rank 0 gets 1 and 3, rank 1 gets 2 and 4
    assert by_task == {"zero/of_rank_0": 2.0, "one/of_rank_1": 3.0}


def test_a_trainer_logs_the_same_on_every_rank_and_what_the_union_of_the_data_gives(job) -> None:
    size = job[1]
    everyones = results(job, "trainer")
    own = [[row for row in theirs["rows"] if "from_rank_0" not in row] for theirs in everyones]
    assert all([*map(without_times, rows)] == [*map(without_times, own[0])] for rows in own)
    batches = np.arange(32.0).reshape(-1, 2)
    a_window = 2 * 2 * size  # two steps of two micro-batches
    for number, row in enumerate(row for row in own[0] if "a/loss" in row):
        window = batches[number * a_window : (number + 1) * a_window]
        by_rank = [window[rank::size].mean() for rank in range(size)]
        expected = {
            "a/loss": window.mean(),
            "a/x": window.mean(),
            "a/n": window.size,
            "a/p": np.median(window),
            "a/last": window[-size].mean(),
            "a/spread": window.mean(),
            "a/spread.rank_min": min(by_rank),
            "a/spread.rank_max": max(by_rank),
            **({"only/three": 3.0} if 3 in window else {}),
        }
        assert {name: value for name, value in row.items() if "/" in name} == expected
        assert row["loss"] == pytest.approx(window.mean())


def test_only_the_first_rank_sends(job) -> None:
    sent = [theirs["sent"] for theirs in results(job, "trainer")]
    assert [step for step, _ in sent[0]] == {2: [2, 4], 4: [2]}[job[1]]
    assert sent[1:] == [[]] * (job[1] - 1)


def test_a_batch_that_only_pads_does_not_count(job) -> None:
    # 100 ... 117 in batches of 4: the last real batch is 116, 117, 100, 101. The other ranks get only padding then.
    counted = np.array([*range(100, 118), 100, 101])
    for theirs in results(job, "trainer"):
        assert theirs["evaluated"]["eval_a/n"] == 20
        assert theirs["evaluated"]["eval_a/x"] == pytest.approx(counted.mean())


def evaluated(counted: list[int]) -> dict[str, float]:
    """Return the result of an evaluation that counts these rows. The bits of `rows` stand for the rows."""
    return {
        "eval_a/x": pytest.approx(np.mean(counted)),
        "eval_a/n": len(counted),
        "eval_a/rows": sum(2.0**row for row in set(counted)),
    }


@pytest.mark.parametrize("first", FIRST_ENTRIES)
def test_padding_is_found_whatever_a_batch_begins_with(two, first) -> None:
    # 0 ... 17 in batches of 4 on 2 ranks: in the last round rank 0 has 16, 17, 0, 1, and rank 1 has 2, 3, 4, 5 again.
    for theirs in results((two, 2), "padding"):
        assert theirs[first] == evaluated([*range(18), 0, 1])


@pytest.mark.parametrize("case", ["own step", "own loop", "part of step"])
def test_padding_does_not_count_in_an_evaluation_of_the_users_own(two, case) -> None:
    for theirs in results((two, 2), "padding"):
        assert theirs[case] == evaluated([*range(18), 0, 1])


@pytest.mark.parametrize(
    ("case", "counted"),
    [
        # 54 rows: in the last round rank 0 has 16, 16, 16, 17; rank 1 has 17, 17 and two of the first rows again.
        ("repeats", [*np.repeat(range(18), 3), 0, 0]),
        ("repeats strings", [*np.repeat(range(18), 3), 0, 0]),
        # 36 rows: in the last round rank 0 has 16, 16, 17, 17, and rank 1 nothing of its own.
        ("repeats lists", np.repeat(range(18), 2)),
        ("drops", range(16)),
        ("drops all but 3", [0, 1, 2, 0]),
        ("dispatched", range(18)),
        ("split", range(18)),
        # Rank 0 has a batch more than rank 1, whose last batch is 12, 13, 14, 15.
        ("not evened", range(18)),
        # Batches of 2, 4, 4, 4 and 4. Rank 1 gets a sixth batch, the first rows again, but nothing tells us that.
        ("uneven", [*range(18), 0, 1, 2, 3]),
        ("drop_last", range(16)),
    ],
)
def test_a_real_batch_is_never_taken_for_padding(two, case, counted) -> None:
    for theirs in results((two, 2), "padding"):
        assert theirs[case] == evaluated([*counted])


def test_an_evaluation_that_is_longer_on_one_rank_does_not_make_its_later_reports_later(two) -> None:
    """Rank 0 evaluates one batch more. In step s, rank s % 2 alone reports 2 * s + rank."""
    for theirs in results((two, 2), "evaluations"):
        evaluation = {"eval_a/first": 100.0, "eval_a/last": 106.0, "eval_a/n": 7.0, "eval_a/sum": 721.0}
        first = {"a/first": 0.0, "a/last": 7.0, "a/n": 4.0, "a/sum": 14.0}
        second = {"a/first": 8.0, "a/last": 15.0, "a/n": 4.0, "a/sum": 46.0}
        overall = {"overall_a/first": 0.0, "overall_a/last": 15.0, "overall_a/n": 8.0, "overall_a/sum": 60.0}
        assert theirs["uneven"] == [first, evaluation, second, evaluation, overall, evaluation]


def test_every_batch_of_a_loader_that_accelerate_did_not_prepare_counts(two) -> None:
    for theirs in results((two, 2), "evaluations"):
        found = [row for row in theirs["own loader"] if "eval_a/n" in row]
        assert [(row["eval_a/n"], row["eval_a/sum"]) for row in found] == [(16.0, sum(range(100, 116)))] * 2


def test_a_batch_of_padding_does_not_count_in_a_loader_that_was_broken_off_before(two) -> None:
    for theirs in results((two, 2), "evaluations"):
        found = [row for row in theirs["broken off"] if "eval_a/n" in row]
        assert [(row["eval_a/n"], row["eval_a/sum"]) for row in found] == [(5.0, sum(range(100, 105)))] * 3


def test_a_training_resumed_on_several_ranks_logs_as_if_it_had_never_been_stopped(two) -> None:
    for theirs in results((two, 2), "resume"):
        assert theirs["stopped"] == []
        assert [*map(pytest.approx, theirs["whole"])] == theirs["resumed"]
        first = theirs["resumed"][0]
        window = np.arange(12.0)  # six steps, one item per rank
        assert first["a/loss"] == window.mean()
        assert (first["a/first"], first["a/last"], first["a/p"]) == (0.0, 10.0, 5.5)
        assert first["a/std"] == pytest.approx(window.std())
        # Over the whole training: eight steps of two rows, the fifth of them after the checkpoint.
        every = np.arange(16.0)
        epoch, overall = theirs["resumed"][1:]
        assert epoch == {"epoch_a/p": 7.5}
        assert overall == {
            "overall_a/loss": every.mean(), "overall_a/first": 0.0, "overall_a/last": 14.0, "overall_a/p": 7.5,
            "overall_a/std": pytest.approx(every.std()), "overall_a/n": 16.0,
        }  # fmt: skip
        assert first["a/n"] == 12.0


def test_ranks_whose_epochs_end_at_different_steps_train_on_without_values_per_epoch(two) -> None:
    for theirs in results((two, 2), "epochs"):
        # The first rank has 0, 1, 2, 3, 4, 0 in six steps, the second one 100, 101, 102, 100, 101, 102.
        assert theirs["streams"] == [
            {"a/loss": np.mean([0, 1, 2, 100, 101, 102]), "a/n": 6.0},
            {"a/loss": np.mean([3, 4, 0, 100, 101, 102]), "a/n": 6.0},
            {"overall_a/loss": np.mean([0, 1, 2, 3, 4, 0, 100, 101, 102, 100, 101, 102]), "overall_a/n": 12.0},
        ]
        # The first rank has 0, 2, 4, 0 in four steps, the second one 1, 3, 1, 3.
        assert theirs["rows"] == [
            {"a/loss": np.mean([0, 2, 1, 3]), "a/n": 4.0},
            {"a/loss": np.mean([4, 0, 1, 3]), "a/n": 4.0},
            {"overall_a/loss": np.mean([0, 2, 4, 0, 1, 3, 1, 3]), "overall_a/n": 8.0},
        ]


def test_ranks_whose_epochs_end_at_the_same_step_have_values_per_epoch(two) -> None:
    for theirs in results((two, 2), "epochs"):
        found = {case: [row for row in theirs[case] if "epoch_a/n" in row] for case in ("micro-batches", "dispatched")}
        # An epoch is one step, of three micro-batches on the first rank and of two on the other one.
        assert found["micro-batches"] == [{"epoch_a/loss": 2.0, "epoch_a/n": 5.0}] * 2
        # The data have no length. In the third step the second rank gets the first row again.
        assert found["dispatched"] == [{"epoch_a/loss": pytest.approx(np.mean([0, 1, 2, 3, 4, 0])), "epoch_a/n": 6.0}]


def test_a_resumed_training_whose_ranks_now_end_their_epochs_together_has_values_of_whole_epochs(two) -> None:
    """It is resumed inside its second epoch. What was saved is of two epochs, so the second one has no row."""
    for theirs in results((two, 2), "epochs"):
        found = [row for row in theirs["resumed"] if "epoch_a/n" in row]
        assert found == [{"epoch_a/loss": pytest.approx(np.mean([0, 1, 2, 3, 4, 0])), "epoch_a/n": 6.0}]


def test_phases_of_the_users_own_are_reduced_over_the_ranks(two) -> None:
    """In step s rank r has the row 2 * s + r, from step 0 on."""
    for theirs in results((two, 2), "phases"):
        rows = theirs["rows"]

        def series(name, rows=rows):
            return [(row["step"], row[name]) for row in rows if name in row]

        assert series("a/loss") == [
            (2, np.mean([0, 1, 2, 3])),
            (4, np.mean([4, 5, 6, 7])),
            (6, np.mean([8, 9, 10, 11])),
        ]
        # Rank 0 probes with 100 s, rank 1 with 100 s + 1 and 100 s + 2.
        assert series("probe_a/loss") == [(step, 100.0 * step + 1.0) for step in range(1, 7)]
        # Rank 1 alone, from the third step on.
        assert series("rollout_a/loss") == [(4, np.mean([5000, 7000])), (6, np.mean([9000, 11000]))]
        assert theirs["after"]["after_a/loss"] == 0.5
        assert series("a/seconds")[0][1] > 0
    one, other = results((two, 2), "phases")
    assert [row.get("a/seconds") for row in one["rows"]] == [row.get("a/seconds") for row in other["rows"]]


def test_a_rank_that_dies_gives_the_process_groups_own_error(two) -> None:
    module, text, seconds = results((two, 1), "death")[0]
    assert module in ("builtins", "torch.distributed")
    assert "gloo" in text
    assert seconds < 60
