"""Gives each process of pytest-xdist one thread for its computations. Import this before torch."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # If the processes share the cores, several threads per process mostly wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
