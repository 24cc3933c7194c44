"""The demo: pre-trains a small BERT on the documentation that ships with Python.

In: an output directory, a number of steps, names of sinks, a seed. Out: a training that logs its two tasks to every
sink. `environment` needs no torch; `python -m mtask_sinks.demo` trains.

May import: what users import (`mtask_sinks`). Only `cli` imports it.
"""
