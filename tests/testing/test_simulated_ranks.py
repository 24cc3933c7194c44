from __future__ import annotations

import numpy as np
import pytest

from mtask_sinks.errors import CollectiveError
from mtask_sinks.testing.simulated_ranks import Job


def test_each_collective_gives_what_all_ranks_gave() -> None:
    def body(ranks):
        mine = np.array([float(ranks.rank), 10.0 - ranks.rank])
        return (
            ranks.maximum(mine).tolist(),
            ranks.total(mine).tolist(),
            [theirs.tolist() for theirs in ranks.gather(mine)],
            ranks.gather_objects(f"rank {ranks.rank}"),
        )

    job = Job(3)
    everyones = [[0.0, 10.0], [1.0, 9.0], [2.0, 8.0]]
    assert job.run(body) == [([2.0, 10.0], [3.0, 27.0], everyones, ["rank 0", "rank 1", "rank 2"])] * 3
    assert job.calls == {"maximum": 1, "total": 1, "gather": 1, "gather_objects": 1}


@pytest.mark.filterwarnings("error")
def test_infinite_numbers_of_both_signs_add_up_without_a_warning() -> None:
    totals = Job(2).run(lambda ranks: ranks.total(np.array([-np.inf if ranks.rank else np.inf])))
    assert np.isnan(totals).all()


def test_a_rank_that_raises_is_told_and_holds_up_nobody() -> None:
    waited = []

    def body(ranks):
        if ranks.rank == 1:
            raise ZeroDivisionError("rank 1 only")
        try:
            ranks.total(np.ones(1))
        except CollectiveError as error:
            waited.append(str(error))
            raise

    with pytest.raises(ZeroDivisionError, match="rank 1 only"):
        Job(3).run(body)
    assert len(waited) == 2
    assert all(text.startswith("rank 1 has raised ZeroDivisionError") for text in waited)


def test_a_rank_that_has_returned_is_not_waited_for() -> None:
    with pytest.raises(
        CollectiveError, match="rank 0 has returned, while rank 1 waits in 'total': a real job would hang"
    ):
        Job(2).run(lambda ranks: ranks.rank and ranks.total(np.ones(1)))


def test_ranks_in_different_collectives_or_with_different_lengths_are_told() -> None:
    with pytest.raises(CollectiveError, match="{0: 'gather', 1: 'total'}"):
        Job(2).run(lambda ranks: (ranks.total if ranks.rank else ranks.gather)(np.ones(1)))
    with pytest.raises(CollectiveError, match=r"vectors of \[1, 2\] numbers to 'total'"):
        Job(2).run(lambda ranks: ranks.total(np.ones(1 + ranks.rank)))


def test_what_pytest_raises_comes_out() -> None:
    with pytest.raises(pytest.fail.Exception, match="on purpose"):
        Job(2).run(lambda ranks: pytest.fail("on purpose") if ranks.rank else ranks.total(np.ones(1)))


def test_a_job_works_on_after_an_error() -> None:
    job = Job(2)
    with pytest.raises(CollectiveError):
        job.run(lambda ranks: ranks.rank and ranks.total(np.ones(1)))
    assert job.run(lambda ranks: ranks.total(np.ones(1)).tolist()) == [[2.0], [2.0]]


@pytest.mark.parametrize("size", [0, -1, "2", 1.5])
def test_a_job_without_a_number_of_ranks_is_refused(size) -> None:
    with pytest.raises(ValueError, match=f"size={size!r} is no number of ranks: pass a whole number, 1 or more"):
        Job(size)


def test_a_maximum_of_nan_is_refused_because_real_backends_differ() -> None:
    with pytest.raises(CollectiveError, match="a maximum of NaN depends on the backend"):
        Job(2).run(lambda ranks: ranks.maximum(np.array([1.0, np.nan])))
