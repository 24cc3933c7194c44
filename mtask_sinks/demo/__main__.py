"""Trains the model of the demo in a process of its own: ``python -m mtask_sinks.demo RUN_DIR STEPS SEED SINK,SINK``."""

from __future__ import annotations

import sys
from pathlib import Path

from mtask_sinks.demo.training import train

if __name__ == "__main__":
    run_dir, max_steps, seed, sinks = sys.argv[1:]
    train(Path(run_dir), int(max_steps), [name for name in sinks.split(",") if name], int(seed))
