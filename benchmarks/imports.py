"""Measures what ``import mtask_sinks`` adds to torch and transformers, and how fast the command line starts."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from benchmarks.rows import Row, at_most

_IMPORT = """
import sys, time
import torch, transformers
from transformers import Trainer
begin = time.perf_counter()
import mtask_sinks
mtask_sinks.MetricRegistry, mtask_sinks.HfMultiTaskTrainer
print(time.perf_counter() - begin)
"""
_HELP = """
import sys, time
sys.argv = ["mtask-sinks", "--help"]
begin = time.perf_counter()
from mtask_sinks.cli import main
try:
    main()
except SystemExit:
    pass
print(time.perf_counter() - begin, "torch" in sys.modules)
"""


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    rounds = 2 if quick else 7
    _run(_IMPORT)  # writes the bytecode, as pip does at installation
    imports = [float(_run(_IMPORT)) for _ in range(rounds)]
    helps = [_run(_HELP).splitlines()[-1].split() for _ in range(rounds)]
    return [
        at_most("import mtask_sinks and its Trainer, beyond torch and transformers", median(imports) * 1e3, 50,
                "{:.0f} ms"),
        at_most("mtask-sinks --help, after Python's own start", median(float(h[0]) for h in helps), 0.4, "{:.2f} s"),
        at_most("mtask-sinks --help: imports of torch", sum(h[1] == "True" for h in helps), 0, "{:.0f}"),
    ]  # fmt: skip


def _run(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return done.stdout
