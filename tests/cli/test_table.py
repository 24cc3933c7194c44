from __future__ import annotations

import io
from itertools import combinations

import pytest
from rich.cells import cell_len
from rich.console import Console

from mtask_sinks.cli.formatting import print_renderable
from mtask_sinks.cli.table import Curve, TableColumn, fit, make_table, plain_table

COLUMNS = [TableColumn("task", flow="cut"), TableColumn("value", "right")]
ROWS = [["a" * 60, "1"], ["[b]", "20"]]


def printed(columns=COLUMNS, rows=ROWS, width: int = 40, styles=None, **options) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    print_renderable(console, make_table(columns, rows, console, styles))
    return console.file.getvalue()


def on_terminal(columns, rows, width: int) -> list[str]:
    return printed(columns, rows, width, force_terminal=True, color_system=None).splitlines()


def test_a_pipe_gets_whole_lines_without_colour() -> None:
    text = printed(styles={1: ["green", ""]})
    assert text == plain_table(COLUMNS, ROWS) + "\n"
    assert text.splitlines()[1] == "a" * 60 + "      1"
    assert "\x1b" not in text


def test_a_terminal_gets_a_table_that_fits_with_colour() -> None:
    assert "\x1b[32m" in printed(styles={1: ["green", ""]}, force_terminal=True)
    assert all(len(line) <= 40 for line in on_terminal(COLUMNS, ROWS, 40))


def test_cells_and_headings_are_no_markup() -> None:
    assert "[b]" in printed(force_terminal=True, color_system=None)
    headings = ["eval_wiki[de]", "eval_wiki[en]", "eval_[/x]", "eval:fire:"]
    assert on_terminal([TableColumn(name) for name in headings], [["1"] * 4], 80)[0].split() == headings


def test_a_name_that_is_too_long_loses_its_middle_and_keeps_its_end() -> None:
    names = [["classification_of_sentences_mnli", "1"], ["classification_of_sentences_qqp", "2"]]
    rows = [line.split()[0] for line in on_terminal(COLUMNS, names, 24)[1:]]
    assert [row[-3:] for row in rows] == ["nli", "qqp"] and all("…" in row for row in rows)


@pytest.mark.parametrize(("width", "values"), [(31, 1), (40, 2), (60, 6)])
def test_columns_drop_before_names_look_the_same(width: int, values: int) -> None:
    tasks = ["mlm", "named_entity_recognition", "sentence_similarity", "sentiment"]
    names = [f"grad_cosine.{a}.{b}" for a, b in combinations(tasks, 2)]
    columns = [TableColumn("metric", flow="cut"), TableColumn("v1")]
    columns += [TableColumn(f"v{i}", drop=10 - i) for i in range(2, 7)]
    _, *rows = on_terminal(columns, [[name, *["0.5"] * 6] for name in names], width)[: len(names) + 1]
    shown = [row.split() for row in rows]
    assert len({name for name, *_ in shown}) == len(names)
    assert {len(row) for row in shown} == {1 + values}
    for whole, (name, *_) in zip(names, shown, strict=True):
        start, _, end = name.partition("…")
        assert whole.startswith(start) and whole.endswith(end)


def test_if_no_column_is_left_to_drop_other_names_give_way_to_names_that_would_look_the_same() -> None:
    rows = [[f"task_{'x' * 20}", f"layer_{i}_of_the_decoder", "0.5"] for i in range(3)]
    columns = [TableColumn("task", flow="cut"), TableColumn("metric", flow="cut"), TableColumn("v")]
    lines = on_terminal(columns, rows, 28)[1:]
    assert [line.split()[1][:7] for line in lines] == ["layer_0", "layer_1", "layer_2"]
    assert all(len(line) <= 28 for line in lines)


def test_names_that_differ_only_in_their_middle_are_cut_after_a_few_tries(monkeypatch) -> None:
    measured = []

    def count(text: str) -> int:
        measured.append(text)
        return cell_len(text)

    monkeypatch.setattr("rich.cells.cell_len", count)
    names = [f"{'x' * 100}{i}{'y' * 100}" for i in range(1000)]
    columns = [TableColumn("metric", flow="cut"), *(TableColumn(f"v{i}", drop=i) for i in range(1, 20))]
    assert fit(columns, [[name, *["0.5"] * 19] for name in names], 120).widths == {0: 120}
    # Each of the 20 cells of a row is measured once, and a name once more for each width that is tried. Trying each
    # width, and each character of a name, measured thousands of texts per name.
    assert len(measured) < 60 * len(names)


@pytest.mark.parametrize("width", range(25, 100, 7))
def test_columns_drop_in_their_order_and_no_number_breaks(width: int) -> None:
    columns = [
        TableColumn("task", flow="cut"),
        *(TableColumn(f"n{i}", "right", drop=drop) for i, drop in enumerate((0, 3, 1, 2))),
    ]
    numbers = ["-5.534e-05", "-1.234e-05", "999,999,999", "12,345"]
    head, line, *more = on_terminal(columns, [["translation", *numbers]], width)
    shown = line.split()[1:]
    assert all(cell in numbers for cell in shown) and len(line) <= width
    dropped = [name for name in ("n2", "n3", "n1") if name not in head]
    assert dropped == ["n2", "n3", "n1"][: 4 - len(shown)]
    assert more == ([f"no room for: {', '.join(dropped)}"] if dropped else [])


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (25, ["eval_natu…alidation"]),
        (35, ["eval_natural_q…ook_validation"]),
        (50, ["eval_natur…validation", "eval_natur…_book_test"]),
        (100, ["eval_natural_questions_open_book_validation", "eval_natural_questions_open_book_test"]),
    ],
)
def test_headings_of_values_lose_their_middle_before_names_and_values_break(width: int, headings: list[str]) -> None:
    names = ["eval_natural_questions_open_book_validation", "eval_natural_questions_open_book_test"]
    columns = [TableColumn("task", flow="cut"), TableColumn(names[0], "right", flow="heading")]
    columns += [TableColumn(names[1], "right", flow="heading", drop=1)]
    head, line, *_ = on_terminal(columns, [["mlm", "-5.534e-05", "12,345"]], width)
    assert head.split() == ["task", *headings]
    assert line.split() == ["mlm", "-5.534e-05", "12,345"][: 1 + len(headings)]


def test_a_short_heading_stays_whole_beside_long_names() -> None:
    columns = [*(TableColumn(name, flow="cut") for name in ("task", "metric")), TableColumn("train", flow="heading")]
    head, line = on_terminal(columns, [["named_entity_recognition", "loss_of_the_long_name", "45"]], 37)
    assert head.split() == ["task", "metric", "train"]
    assert line.split()[2] == "45"


@pytest.mark.parametrize("width", [12, 20, 28, 36, 44])
def test_even_if_no_column_is_left_to_drop_all_cells_are_whole(width: int) -> None:
    columns = [
        TableColumn("task", flow="cut"),
        TableColumn("phase"),
        *(TableColumn(f"n{i}", "right") for i in range(3)),
    ]
    cells = ["translation", "eval_books", "-5.534e-05", "-1.234e-05", "better"]
    lines = on_terminal(columns, [cells], width)
    assert all(len(line) <= width for line in lines)
    text = "".join(line.ljust(width) for line in lines)
    assert all(cell in text for cell in cells[1:])


def test_texts_become_narrower_before_other_cells_break() -> None:
    columns = [TableColumn("sink"), TableColumn("installed"), TableColumn("how to get it", flow="wrap")]
    rows = [["example_factory", "1.0", ""], ["azure_ml", "-", "pip install azureml-sdk"]]
    assert [line.rstrip() for line in on_terminal(columns, rows, 40)][1:] == [
        "example_factory  1.0",
        "azure_ml         -          pip install",
        " " * 28 + "azureml-sdk",
    ]


def test_wide_characters_line_up_in_a_pipe_and_when_they_are_cut() -> None:
    assert plain_table(COLUMNS, [["情感", "1"], ["sold", "20"]]).splitlines() == [
        "task  value", "情感      1", "sold     20",
    ]  # fmt: skip
    lines = on_terminal(COLUMNS, [["情感的自然语言处理的任务", "1"], ["sold", "20"]], 16)
    assert [cell_len(line) for line in lines] == [16, 16, 16]
    assert lines[1].startswith("情感…任务 ")


def test_curves_take_what_is_left_up_to_their_number_of_values() -> None:
    columns = [TableColumn("task"), TableColumn("x", flow="curve"), TableColumn("y", flow="curve")]
    rows = [["mlm", Curve([1.0] * 1000), Curve([1.0] * 12)]]
    assert fit(columns, rows, 200).widths == {0: 4, 1: 200 - 4 - 12 - 2 * 2, 2: 12}
    assert fit(columns, rows, 30).widths == {0: 4, 1: 11, 2: 11}
    line = on_terminal(columns, rows, 80)[1]
    assert line.count("▁") == 80 - 4 - 2 * 2


def test_text_continues_on_the_next_line_and_leaves_out_no_word() -> None:
    columns = [TableColumn("name"), TableColumn("n", "right"), TableColumn("about", flow="wrap")]
    about = " ".join(f"word{i}" for i in range(30))
    lines = on_terminal(columns, [["x", "-5.534e-05", about]], 60)
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()[4:]).split()[1:] == about.split()


@pytest.mark.parametrize("width", range(30, 36))
def test_names_share_what_is_left_to_the_last_character(width: int) -> None:
    columns = [TableColumn(name, flow="cut") for name in "abc"]
    fitting = fit(columns, [["x" * 40, "y" * 40, "z" * 40]], width)
    assert (fitting.width, max(fitting.widths.values()) - min(fitting.widths.values()) <= 1) == (width, True)
