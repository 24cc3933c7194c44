from __future__ import annotations

from pathlib import Path

import pytest
from helpers.journals import losses, write
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import open_runs
from mtask_sinks.cli import app


def plot(*arguments: str):
    return CliRunner().invoke(app, ["plot", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def two(tmp_path) -> str:
    runs = [(RunInfo(id=str(n), name=f"r{n}"), losses(2, 4), "finished") for n in (1, 2)]
    write(tmp_path, *runs)
    return str(tmp_path)


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
def test_it_says_what_it_drew(two, ending) -> None:
    done = plot(f"{two}:r1", two, "-o", f"c.{ending}", "--smooth", "0.6", "--log")
    assert (done.exit_code, done.output) == (0, f"c.{ending}: 4 values in 1 panel\n")
    assert Path(f"c.{ending}").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "option", "said"),
    [
        (["nowhere"], "RUNS", "there is no nowhere"),
        (["{}:z"], "RUNS", "there is no training 'z'"),
        (["{}", "--only", "b/*"], "--only", "no metric matches 'b/*'. The metrics are: a/loss."),
        (["{}", "-o", "c.pdf"], "--output", "the ending '.pdf' is not a known format"),
        (["{}", "-o", "no/such/place.png"], "--output", "cannot be written: No such file or directory"),
        (["{}", "-o", "{}/metrics.jsonl"], "--output", "the ending '.jsonl' is not a known format"),
        (["{}", "--smooth", "1"], "--smooth", "from 0 (no smoothing) to below 1"),
    ],
)
def test_what_cannot_be_drawn_is_a_usage_error(two, arguments, option, said) -> None:
    done = plot(*(argument.format(two) for argument in arguments))
    text = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2
    assert said in text
    assert option in text


@pytest.mark.parametrize(("names", "given"), [
    (["copy.jsonl"], "copy.jsonl"),
    (["metrics.jsonl", "metrics-2.jsonl"], ""),
    (["metrics.jsonl", "metrics-2.jsonl"], "metrics-2.jsonl"),
    (["metrics-3.jsonl"], ""),
])  # fmt: skip
def test_the_way_to_another_training_of_the_same_journal_leads_there(tmp_path, names, given) -> None:
    for name in names:
        runs = [(RunInfo(id=f"{name} {n}"), losses(2, 4), "finished") for n in (1, 2)]
        write(tmp_path / "new", *runs).rename(tmp_path / name)
    hint = plot(str(tmp_path / given), "-o", "c.html").stderr
    other = hint.partition("number or name: ")[2].rstrip(".\n")
    (shown,) = open_runs([other])
    assert shown.training.id == f"{given or names[0]} 1"


def test_it_says_that_it_shows_only_the_last_of_several_trainings(two) -> None:
    hint = f"{two} holds 2 trainings, and this shows the last one. Choose another by its number or name: {two}:1.\n"
    assert plot(two).output == f"{hint}plot.html: 2 values in 1 panel\n"
    other = Path(two, "other")
    other.mkdir()
    write(other, *[(RunInfo(id=name, name=name), losses(2), "finished") for name in ("a", "b", "c")])
    said = plot(two, str(other)).output.splitlines()[0]
    assert said.startswith("2 journals hold several trainings, and this shows the last one of each.")


def test_by_default_it_is_a_page_which_takes_the_place_of_nothing_else(two) -> None:
    assert plot(f"{two}:2").output == "plot.html: 2 values in 1 panel\n"
    assert plot(f"{two}:1", two).output == "plot.html: 4 values in 1 panel\n"
    Path("plot.html").write_text("mine")
    done = plot(two)
    assert (done.exit_code, Path("plot.html").read_text()) == (2, "mine")
    assert "was not written by this command" in " ".join(done.output.replace("│", " ").split())
    assert plot(two, "-o", "plot.html").exit_code == 0


@pytest.mark.parametrize("ending", ["html", "png"])
def test_no_torch(two, tmp_path, without_torch, ending) -> None:
    assert "2 values" in without_torch("plot", two, "-o", str(tmp_path / f"c.{ending}"))


def test_scales_axes_and_the_overview(tmp_path) -> None:
    rows = [Snapshot(s, metrics={"a/loss": 8 / s, "b/loss": 1 / s, "a/n_tokens": 64.0 * s}) for s in (1, 2)]
    write(tmp_path, (RunInfo(id="1", name="r"), rows, None))
    run = str(tmp_path)
    assert plot(run, "--relative", "--x", "a/n_tokens").output == "plot.html: 6 values in 3 panels\n"
    assert '"x":"a/n_tokens"' in Path("plot.html").read_text()
    assert plot(run, "--overlay").output == "plot.html: 6 values in 2 panels\n"
    assert plot(run, "--overview", "-o", "o.svg").output == "o.svg: 8 values in 2 panels\n"
    for arguments, said in (
        (["--log", "--relative"], "choose one"),
        (["--overview", "--only", "a/*"], "choose one"),
        (["--x", "b/n"], "x='b/n' is no metric of the training phase"),
        (["--x", "a/loss"], "falls in r"),
    ):
        done = plot(run, *arguments)
        assert done.exit_code == 2
        assert said in " ".join(done.output.replace("│", " ").split())


def test_it_names_the_runs_that_have_no_place_on_the_axis(tmp_path) -> None:
    for name, n in (("one", 64.0), ("two", None), ("three", 8.0)):
        more = {} if n is None else {"a/n_tokens": n}
        rows = [Snapshot(s, metrics={"a/loss": 8 / s} | {key: s * n for key, n in more.items()}) for s in (1, 2)]
        write(tmp_path / name, (RunInfo(id=name, name=name), rows, None))
    runs = [str(tmp_path / name) for name in ("one", "two", "three")]
    done = plot(*runs, "--x", "a/n_tokens", "-o", "c.svg")
    assert (done.exit_code, done.stdout) == (0, "c.svg: 10 values in 2 panels\n")
    assert done.stderr == "--x a/n_tokens draws no curve of two: it has no value there.\n"
    assert plot(*runs, "--x", "epoch", "-o", "c.svg").stderr == (
        "--x epoch draws no curve of one, two, three: they have no value there.\n"
    )
    assert plot(*runs, "--x", "time", "-o", "c.svg").stderr == ""


def test_a_run_whose_metrics_never_change_has_no_curve_to_place(tmp_path) -> None:
    for name, more in (("one", True), ("two", False)):
        changing = [{"a/loss": 8.0 / step, "a/n_tokens": 64.0 * step} if more else {} for step in (1, 2)]
        rows = [Snapshot(step, metrics={"a/lr": 0.5} | each) for step, each in enumerate(changing, 1)]
        write(tmp_path / name, (RunInfo(id=name, name=name), rows, None))
    done = plot(str(tmp_path / "one"), str(tmp_path / "two"), "--x", "a/n_tokens", "-o", "c.svg")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "c.svg: 8 values in 2 panels; the same everywhere: a/lr\n"


def test_it_names_the_runs_without_a_curve(tmp_path) -> None:
    for name, metrics in (("one", {"a/loss": 8.0}), ("two", {"b/loss": 7.0}), ("empty", None)):
        rows = [] if metrics is None else [Snapshot(1, metrics=metrics)]
        write(tmp_path / name, (RunInfo(id=name, name=name), rows, None))
    runs = [str(tmp_path / name) for name in ("one", "two", "empty")]
    done = plot(*runs, "-o", "c.svg")
    assert done.exit_code == 0
    assert done.stderr == "there is no curve of empty: it has no metric.\n"
    assert plot(*runs, "--only", "a/*", "-o", "c.svg").stderr == (
        "there is no curve of two, empty: they have no metric that matches --only.\n"
    )


def test_what_is_the_same_everywhere_is_told(tmp_path) -> None:
    rows = [Snapshot(s, metrics={"a/loss": 8 / s, "a/n_tokens": 64.0}) for s in (1, 2)]
    write(tmp_path, (RunInfo(id="1", name="r"), rows, None))
    assert plot(str(tmp_path)).output == "plot.html: 4 values in 1 panel; the same everywhere: a/n_tokens\n"
