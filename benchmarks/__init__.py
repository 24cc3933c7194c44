"""Costs of mtask_sinks beside those of others, measured side by side in one process: ``python -m benchmarks``."""
