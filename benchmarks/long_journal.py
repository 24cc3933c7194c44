"""Measures what the commands cost on a long journal, each in a process of its own.

Run it by hand: ``python -m benchmarks.long_journal [--snapshots 1000000] [--directory DIR] [--only watch plot]``. It
writes a journal of two tasks with two metrics each, 533 MB for a million snapshots. For each command it prints CPU
seconds, the largest memory, and the size of the result. It measures the package that ``PYTHONPATH`` names first.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

# One of so many snapshots is from an evaluation.
_EVERY = 500


def write_journal(directory: Path, snapshots: int) -> Path:
    """Write the journal of a training that was resumed at two thirds, with an evaluation now and then."""
    from mtask_sinks import RunInfo, Snapshot
    from mtask_sinks.journal.records import Begin, End, encode

    path = directory / "metrics.jsonl"
    logs = {
        "loss": 2.345678901234,
        "grad_norm": 1.234567890123,
        "learning_rate": 4.999e-05,
        "tokens_per_second": 91234.5,
    }
    resumed, since = snapshots * 2 // 3, 0
    with path.open("wb") as file:
        file.write(encode(Begin(RunInfo(id="1", name="long", params={"max_steps": 10 * snapshots}), 1e9)))
        step = 0
        for at in range(snapshots):
            if at == resumed:
                since = step - 1000
                file.write(encode(Begin(RunInfo(id="2", name="long", step=since), 1e9 + step)))
                step = since
            is_evaluation = at % _EVERY == _EVERY - 1
            step += 0 if is_evaluation else 10
            values = [3.0 * math.exp(-step / 1e6) + 0.1 * math.sin(step * k) for k in (1, 2, 3, 4)]
            keys = ("mlm/loss", "mlm/accuracy", "nsp/loss", "nsp/accuracy")
            metrics = dict(zip(keys, values, strict=True))
            phase = "eval" if is_evaluation else "train"
            counts = dict.fromkeys(metrics, 320)
            file.write(encode(Snapshot(step, phase, metrics, step / 70_000, 1e9 + step / 7, counts, logs=logs)))
        file.write(encode(End("2", "finished", 1e9 + step)))
    return path


_COMMANDS = {
    "watch": ["watch", "{}", "--once"],
    "plot": ["plot", "{}", "-o", "{out}/plot.html"],
    "plot png": ["plot", "{}", "-o", "{out}/plot.png"],
    "report": ["report", "{}", "-o", "{out}/report.html"],
    "diff": ["diff", "{}", "{}"],
    "export csv": ["export", "{}", "-o", "{out}/values.csv"],
    "export parquet": ["export", "{}", "-o", "{out}/values.parquet"],
}


def measure(command: list[str]) -> tuple[float, float, str]:
    """Run a command of the package; return CPU seconds, largest memory in MiB, and its last line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    script = "import sys, resource; from mtask_sinks.cli import app\n"
    script += "try:\n    app(sys.argv[1:])\nfinally:\n"
    script += "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stderr.strip().splitlines()[-1]) / 1024
    said = [line for line in done.stdout.splitlines() if line.strip()]
    return seconds, peak, said[-1] if said else done.stderr.strip()[-200:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="Directory for the journal, which stays there.")
    parser.add_argument("--only", nargs="+", choices=list(_COMMANDS), default=list(_COMMANDS))
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp())
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "metrics.jsonl"
    if not path.exists():
        write_journal(directory, options.snapshots)
    print(f"{path}: {path.stat().st_size / 1e6:,.0f} MB")
    for name in options.only:
        command = [part.format(directory, out=tempfile.gettempdir()) for part in _COMMANDS[name]]
        seconds, peak, said = measure(command)
        made = Path(command[-1]) if "-o" in command else None
        size = f"  {made.stat().st_size / 1e6:7.1f} MB" if made is not None and made.exists() else ""
        print(f"{name:15} {seconds:6.1f} s CPU  {peak:7.0f} MiB{size}  {said[:100]}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "160")
    main()
