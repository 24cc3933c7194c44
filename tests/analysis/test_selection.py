from __future__ import annotations

import os

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.selection import open_run, open_runs, split_run
from mtask_sinks.errors import NoTrainingError


def run(identity: str, name: str | None):
    return RunInfo(id=identity, name=name), losses(1), "finished"


@pytest.fixture
def root(tmp_path):
    for folder, names in {"a": ["x", "y"], "b": ["x"], "c": [None]}.items():
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, *(run(f"{folder}{n}", name) for n, name in enumerate(names)))
    return tmp_path


def opened(root, *given: str) -> list[tuple[str, int]]:
    return [(run.label, run.training.number) for run in open_runs([str(root / each) for each in given])]


def test_the_last_training_or_the_one_that_is_chosen(root) -> None:
    assert opened(root, "a", "a:1", "a:x") == [("y", 2), ("x", 1)]


def test_labels_are_as_short_as_they_can_be(root) -> None:
    assert opened(root, "a:x", "b") == [("x (a)", 1), ("x (b)", 1)]
    assert opened(root, "a:x", "b", "a:y") == [("x (a)", 1), ("x (b)", 1), ("y", 2)]
    (root / "d" / "a").mkdir(parents=True)
    write(root / "d" / "a", run("1", "x"))
    assert opened(root, "a:x", "d/a") == [(f"x ({root}/a/metrics.jsonl:1)", 1), (f"x ({root}/d/a/metrics.jsonl:1)", 1)]


def test_a_training_without_a_name_is_called_as_its_directory(root) -> None:
    assert opened(root, "c") == [("c", 1)]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("x", "y"), ["x", "y"]),
        (("x", "x"), ["x (both/metrics)", "x (both/metrics-2)"]),
        (("x", None), ["x", "metrics-2"]),
        ((None, None), ["metrics", "metrics-2"]),
    ],
)
def test_trainings_in_two_journals_of_a_directory_are_called_by_their_names(tmp_path, names, labels) -> None:
    both = tmp_path / "both"
    both.mkdir()
    write(both, run("2", names[1])).rename(both / "metrics-2.jsonl")
    os.utime(both / "metrics-2.jsonl", (2000, 2000))
    os.utime(write(both, run("1", names[0])), (1000, 1000))
    assert [each.label for each in open_runs([str(both)])] == labels


def test_a_training_in_the_second_journal_of_a_directory_is_opened_once_however_it_is_named(tmp_path) -> None:
    write(tmp_path, run("2", "y")).rename(tmp_path / "metrics-2.jsonl")
    write(tmp_path, run("1", "x"))
    second = f"{tmp_path}/metrics-2.jsonl"
    assert {(each.label, each.training.id) for each in open_runs([str(tmp_path)])} == {("x", "1"), ("y", "2")}
    for again in (f"{tmp_path}:2", f"{tmp_path}:y", second, f"{second}:1"):
        runs = open_runs([str(tmp_path), again])
        assert {(each.label, each.training.id) for each in runs} == {("x", "1"), ("y", "2")}, again
        assert len(runs) == 2, again


def test_one_that_is_not_there_is_an_error(root) -> None:
    with pytest.raises(NoTrainingError, match="there is no training 'z'"):
        open_runs([f"{root}/a:z"])


def test_a_run_is_chosen_by_number_or_name_and_else_is_the_last(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="x"), losses(1), "finished"), (RunInfo(id="2", name="y:1"), losses(2), None))
    for suffix, number in (("", 2), (":1", 1), (":2", 2), (":x", 1), (":y:1", 2)):
        found = open_run(f"{tmp_path}{suffix}")
        assert (found.journal, found.number) == (tmp_path / "metrics.jsonl", number)


def test_a_path_with_a_colon_is_a_path(tmp_path) -> None:
    (tmp_path / "a:1").mkdir()
    assert split_run(tmp_path / "a:1") == (str(tmp_path / "a:1"), None)
    assert split_run(f"{tmp_path}/a:1:2") == (f"{tmp_path}/a:1", "2")
    assert split_run(tmp_path) == (str(tmp_path), None)


@pytest.mark.parametrize("run", ["nowhere", "nowhere:1"])
def test_a_path_that_is_not_there_is_said(run) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no nowhere\."):
        open_run(run)


def test_one_path_instead_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"open_runs\('out'\): pass a list, open_runs\(\['out'\]\)"):
        open_runs("out")
