"""Prints one table of figures and targets: ``python -m benchmarks [--quick] [--only TOPIC ...] [--markdown FILE]``."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.rows import Measure, Row


def _topics() -> dict[str, Measure]:
    """Return each topic's name on the command line, and the function that measures it."""
    from benchmarks import (
        compiled,
        cuda,
        end_to_end,
        imports,
        in_step,
        log_event,
        memory,
        ranks,
        reporting,
        task_health,
        tensorboard_files,
    )

    modules = [
        *(in_step, end_to_end, reporting, compiled, memory, ranks, log_event),
        *(task_health, tensorboard_files, imports, cuda),
    ]
    return {module.__name__.rsplit(".", 1)[1]: module.measure for module in modules}


def main() -> None:
    topics = _topics()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Run fewer rounds: faster, but rougher figures.")
    parser.add_argument("--only", nargs="+", choices=topics, default=list(topics), help="Measure only these topics.")
    parser.add_argument("--markdown", type=Path, help="Also write the table to this file.")
    options = parser.parse_args()
    console = Console()
    rows: dict[str, list[Row]] = {}
    for name in options.only:
        with console.status(f"{name} …"):
            rows[name] = _measure(topics[name], options.quick)
    console.print(_table(rows))
    console.print(machine.describe())
    if options.markdown:
        options.markdown.write_text(_markdown(rows))


def _measure(measure: Measure, quick: bool) -> list[Row]:
    """Measure a topic in a process of its own, because what other topics leave in memory would slow it down."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(measure, quick).result()


def _markdown(rows: dict[str, list[Row]]) -> str:
    lines = ["| figure | target | measured | |", "|---|---|---|---|"]
    for row in chain.from_iterable(rows.values()):
        lines.append(f"| {row.figure} | {row.target} | {row.measured} | {row.verdict} |")
    return "\n".join([*lines, "", machine.describe() + ".", ""])


def _table(rows: dict[str, list[Row]]) -> Table:
    table = Table("figure", "target", "measured", "", title="mtask_sinks, measured side by side")
    styles = {"met": "green", "not met": "red", "–": "dim"}
    for part in rows.values():
        for row in part:
            table.add_row(row.figure, row.target, row.measured, f"[{styles[row.verdict]}]{row.verdict}")
        table.add_section()
    return table


if __name__ == "__main__":
    main()
