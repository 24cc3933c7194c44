"""``python -m mtask_sinks`` is the command ``mtask-sinks``."""

from mtask_sinks.cli import main

main()
