"""The table that a notebook shows, as IPython receives it. Needs no kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.large_journal import METRICS, TASKS, value
from helpers.toy import InOrder, Toy, arguments, numbers
from transformers import PrinterCallback

from mtask_sinks import HfMultiTaskTrainer, SinkArguments
from mtask_sinks._util.formatting import number
from mtask_sinks.console.notebook import _make_row


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class Changing(Toy):
    """Task b reports only values above 2, so it is missing in the first row."""

    def extra(self, x, loss):
        if loss > 2:
            self.report_metrics("b", loss=10 * loss)
        self.report_metrics("a", loss=loss, size=-loss)


@pytest.fixture
def shown(monkeypatch) -> Iterator[list[str]]:
    """Collect every HTML text that IPython displays or updates."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    texts: list[str] = []
    publish = publisher.publish

    def keep(data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        texts.append(data.get("text/html", ""))
        publish(data, *args, **kwargs)

    monkeypatch.setattr(publisher, "publish", keep)
    yield texts
    InteractiveShell.clear_instance()


def trained(tmp_path, sink_args: SinkArguments | None = None, data=(1, 2, 3, 4), **changes: Any) -> Trainer:
    from transformers.utils.notebook import NotebookProgressCallback

    trainer = Trainer(
        Changing(),
        arguments(tmp_path, **changes),
        train_dataset=numbers(*data),
        eval_dataset=changes.get("eval_dataset", numbers(10, 20)),
        sink_args=sink_args,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(NotebookProgressCallback)
    trainer.train()
    return trainer


def table(html: str) -> list[dict[str, str]]:
    """Return the rows of the last table, each as column → text."""
    columns = [re.sub("<[^>]+>", "", heading) for heading in re.findall(r"<th>(.*?)</th>", html)]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
    assert all(len(row) == len(columns) for row in rows)
    return [dict(zip(columns, row)) for row in rows]


def test_each_log_event_is_a_row_with_columns_for_every_task(tmp_path, shown) -> None:
    trained(tmp_path)
    assert table(shown[-1]) == [
        {"Step": "2", "Training Loss": "1.500000", "a/loss": "1.5", "a/size": "-1.5", "b/loss": "No Log"},
        {"Step": "4", "Training Loss": "3.500000", "a/loss": "3.5", "a/size": "-3.5", "b/loss": "35"},
    ]


def test_the_rest_of_a_window_has_a_row_too(tmp_path, shown) -> None:
    trained(tmp_path, data=(1, 2, 3))
    assert table(shown[-1])[-1] == {
        "Step": "3 (partial)", "Training Loss": "No Log", "a/loss": "3", "a/size": "-3", "b/loss": "30",
    }  # fmt: skip


def test_the_rest_of_a_window_has_a_row_beside_the_evaluations_of_epochs(tmp_path, shown) -> None:
    trainer = trained(tmp_path, data=(1, 2, 3), eval_strategy="epoch")
    assert trainer.state.global_step == 3
    last = table(shown[-1])[-1]
    assert (last["Epoch"], last["a/loss"], last["b/loss"], last["Validation Loss"]) == (
        "3 (partial)",
        "3",
        "30",
        "No Log",
    )
    shown.clear()
    trained(tmp_path, SinkArguments(console="off"), data=(1, 2, 3), eval_strategy="epoch")
    assert "partial" not in shown[-1]


def test_the_rest_of_a_training_shorter_than_a_log_event_has_a_row(tmp_path, shown) -> None:
    trained(tmp_path, data=(1, 2, 3), logging_steps=500, eval_strategy="steps")
    assert table(shown[-1])[-1]["a/loss"] == "2"


def test_a_row_of_an_evaluation_has_training_and_evaluation_of_each_task_side_by_side(tmp_path, shown) -> None:
    trained(tmp_path, eval_strategy="steps", eval_steps=2)
    first, second = table(shown[-1])
    assert [*second] == [
        *("Step", "Training Loss", "Validation Loss"),
        *("a/loss", "a/loss (eval)", "a/size", "a/size (eval)", "b/loss", "b/loss (eval)"),
    ]
    assert (first["a/loss"], first["a/loss (eval)"], first["b/loss"], first["b/loss (eval)"]) == (
        "1.5", "15", "No Log", "150",
    )  # fmt: skip
    assert (second["Step"], second["a/loss"], second["b/loss"], second["b/loss (eval)"]) == ("4", "3.5", "35", "150")


def test_several_evaluation_sets_share_a_row(tmp_path, shown) -> None:
    from transformers.utils.notebook import NotebookProgressCallback

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2)
    sets = {"u": numbers(10), "<v>": numbers(20)}
    trainer = Trainer(Changing(), args, train_dataset=numbers(1, 2, 3, 4), eval_dataset=sets)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(NotebookProgressCallback)
    trainer.train()
    rows = table(shown[-1])
    assert [(row["Step"], row["a/loss (eval_u)"], row["a/loss (eval_&lt;v&gt;)"]) for row in rows] == [
        ("2", "10", "20"), ("4", "10", "20"),
    ]  # fmt: skip


def test_a_choice_holds_and_the_rest_is_counted(tmp_path, shown) -> None:
    trained(tmp_path, SinkArguments(console_metrics=["b/*"]))
    assert [*table(shown[-1])[-1]] == ["Step", "Training Loss", "b/loss", "+2 more"]


def test_without_a_console_the_table_is_transformers_own(tmp_path, shown) -> None:
    trained(tmp_path, SinkArguments(console="dict"))
    assert table(shown[-1]) == [
        {"Step": "2", "Training Loss": "1.500000"},
        {"Step": "4", "Training Loss": "3.500000"},
    ]


def test_a_second_training_begins_a_new_table(tmp_path, shown) -> None:
    trainer = trained(tmp_path)
    shown.clear()
    trainer.train_dataset = numbers(1, 1)
    trainer.train()
    assert table(shown[-1]) == [{"Step": "2", "Training Loss": "1.000000", "a/loss": "1", "a/size": "-1"}]


def test_an_evaluation_by_itself_shows_and_returns_its_metrics(tmp_path, shown) -> None:
    trainer = trained(tmp_path)
    assert trainer.evaluate()["eval_b/loss"] == 150.0


def test_an_evaluation_by_itself_has_a_table_of_its_tasks(tmp_path, shown) -> None:
    trainer = trained(tmp_path)
    shown.clear()
    trainer.evaluate()
    assert table(shown[-1]) == [
        {"Step": "4", "a/loss (eval)": "15", "a/size (eval)": "-15", "b/loss (eval)": "150"},
    ]


@pytest.mark.parametrize(("sink_args", "keys"), [
    (SinkArguments(console="off"), set()),
    (SinkArguments(console_metrics=["b/*"]), {"b/loss"}),
])  # fmt: skip
def test_an_evaluation_by_itself_shows_what_the_console_shows(tmp_path, shown, sink_args, keys) -> None:
    trainer = trained(tmp_path, sink_args)
    shown.clear()
    assert {"eval_a/loss", "eval_a/size", "eval_b/loss"} <= trainer.evaluate().keys()
    headings = [re.sub("<[^>]+>", "", text).lower() for html in shown for text in re.findall(r"<th>(.*?)</th>", html)]
    assert {heading.partition(" ")[0] for heading in headings if "/" in heading} == keys


def test_an_evaluation_within_returns_what_it_returns_elsewhere(tmp_path, shown) -> None:
    trainer = trained(tmp_path, eval_strategy="steps", eval_steps=4)
    (row,) = (row for row in trainer.state.log_history if "eval_a/loss" in row)
    assert (row["eval_a/loss"], row["eval_a/size"]) == (15.0, -15.0)


class Large(Toy):
    """6 tasks with 8 metrics each."""

    def extra(self, x, loss):
        for task in TASKS:
            values = {metric: value(task, metric, "train", int(loss) % 2000) for metric in METRICS}
            self.report_metrics(task, **values)


def test_a_large_table_has_the_consoles_choice_of_columns_and_fits_a_screen(tmp_path, shown, browser) -> None:
    from transformers.utils.notebook import NotebookProgressCallback

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2)
    sets = {name: numbers(10) for name in ("books", "news", "wiki")}
    trainer = Trainer(Large(), args, train_dataset=numbers(100, 200, 1300, 1400), eval_dataset=sets)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(NotebookProgressCallback)
    trainer.train()
    first, second = table(shown[-1])
    own = ("Step", "Training Loss", "Validation Loss")
    assert [*second] == [*own, "metric", *TASKS, "+168 more", "Runtime"]
    assert lines(second["metric"]) == ["loss", "loss (eval_books)", "loss (eval_news)", "loss (eval_wiki)"]
    names = [f"{phase}mlm/loss" for phase in ("", "eval_books_", "eval_news_", "eval_wiki_")]
    logged = {name: number(event[name]) for event in trainer.state.log_history for name in names if name in event}
    assert lines(second["mlm"]) == [logged[name] for name in names]
    assert all("No Log" not in text for row in (first, second) for text in row.values())
    assert all(f"{name} Samples Per Second" in first["Runtime"] for name in ("Books", "News", "Wiki"))
    page = tmp_path / "notebook.html"
    page.write_text(f"<!doctype html><style>{JUPYTER}</style><div class=output>{shown[-1]}</div>")
    browser.open(page)
    assert browser.evaluate("return document.querySelector('table').offsetWidth") <= OUTPUT
    # The lines of all cells of a row are at the same heights.
    heights = "return [...document.querySelectorAll('tbody tr:first-child td div')].map(cell => cell.offsetHeight)"
    assert len(set(browser.evaluate(heights))) == 1


def test_tasks_with_different_metrics_share_the_lines(tmp_path, shown) -> None:
    class Uneven(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", **{f"x{n}": loss + n for n in range(7)})
            self.report_metrics("b", x0=loss, **{f"y{n}": loss - n for n in range(7)})

    from transformers.utils.notebook import NotebookProgressCallback

    trainer = Trainer(Uneven(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(NotebookProgressCallback)
    trainer.train()
    row = table(shown[-1])[-1]
    assert [*row] == ["Step", "Training Loss", "metric", "a", "b"]
    by_line = dict(zip(lines(row["metric"]), zip(*(lines(row[task]) for task in ("a", "b")))))
    assert by_line["x0"] == ("3.5", "3.5")
    assert by_line["x6"] == ("9.5", "")
    assert by_line["y6"] == ("", "-2.5")


def lines(cell: str) -> list[str]:
    """Return the lines of a cell, without their tags."""
    return [re.sub("<[^>]+>", "", line) for line in cell.split("<br>")]


# The pixels that an output of JupyterLab has on a screen of 1440, with the list of files beside it.
OUTPUT = 993

# How JupyterLab shows a table in an output (its file rendermime/style/base.css).
JUPYTER = """
body { font: 13px/1.3 system-ui, sans-serif } table { border-collapse: collapse; border: none; font-size: 12px }
th, td { text-align: right; vertical-align: middle; padding: 0.5em; line-height: normal; white-space: normal;
max-width: none; border: none }
"""


def test_runtimes_are_the_last_columns(tmp_path, shown) -> None:
    class Aux(Changing):
        def extra(self, x, loss):
            super().extra(x, loss)
            self.report_metrics(aux_loss=loss)

    from transformers.utils.notebook import NotebookProgressCallback

    trainer = Trainer(
        Aux(),
        arguments(tmp_path, eval_strategy="steps", eval_steps=2),
        train_dataset=numbers(1, 2, 3, 4),
        eval_dataset=numbers(10),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(NotebookProgressCallback)
    trainer.train()
    columns = list(table(shown[-1])[-1])
    assert columns[-3:] == ["Runtime", "Samples Per Second", "Steps Per Second"]
    assert columns.index("b/loss (eval)") < columns.index("Runtime")


def test_a_column_that_comes_into_the_choice_later_has_its_earlier_values(tmp_path, shown) -> None:
    trainer = trained(tmp_path, data=(1, 2, 3, 4), eval_strategy="steps", eval_steps=2)
    first, second = table(shown[-1])
    assert first["a/size"] == "-1.5" and second["a/size"] == "-3.5"
    assert trainer.state.log_history[0]["a/size"] == -1.5


def test_a_step_whose_logs_hold_no_loss_has_a_row_of_its_own() -> None:
    from transformers.utils.notebook import NotebookTrainingTracker

    tracker = NotebookTrainingTracker(10, ["Step", "Training Loss"])
    tracker.write_line({"Step": 1, "Training Loss": 0.5})
    for step in (1, 2, 2):
        _make_row(tracker, step)
    assert tracker.inner_table == [["Step", "Training Loss"], [1, 0.5], [2, "No Log"]]
