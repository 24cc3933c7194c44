"""The demo: pre-trains a small BERT on the documentation that ships with Python.

In: an output directory, a number of steps, names of sinks, a seed. Out: a training that logs its two tasks to every
sink, and a table of its first and last values.

May import: what users import (`mtask_sinks`), `trainer.report_to`. Only `cli` imports it.
"""
