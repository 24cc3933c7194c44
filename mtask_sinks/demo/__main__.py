"""Trains the model of the demo in a process of its own: ``python -m mtask_sinks.demo RUN_DIR STEPS SEED SINK,SINK``."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mtask_sinks.demo.text import read_documents

if __name__ == "__main__":
    run_dir, max_steps, seed, sinks = sys.argv[1:]
    with ProcessPoolExecutor(max_workers=1) as reader:
        documents = reader.submit(read_documents)  # takes seconds, and so does the import of torch: do both at once
        import torch

        from mtask_sinks.demo.training import train
    # A model as small as this one trains hardly faster with several threads, and much slower if other programs run too.
    torch.set_num_threads(1)
    names = [name for name in sinks.split(",") if name]
    train(Path(run_dir), documents.result(), int(max_steps), names, int(seed))
