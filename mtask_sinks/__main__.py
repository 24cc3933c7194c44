"""Runs the command ``mtask-sinks`` as ``python -m mtask_sinks``."""

from mtask_sinks.cli import main

main()
