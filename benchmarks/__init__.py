"""Compares the costs of mtask_sinks with those of other libraries, in one process: ``python -m benchmarks``."""
