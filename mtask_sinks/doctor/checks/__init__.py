"""The checks, one function each; the first line of its docstring is its title, also in docs/doctor.md.

In: a `Script` or a `RecordedTraining` training. Out: `Observation` objects: where, what is wrong, and how to remedy it.

May import: `doctor.script`, `doctor.recorded`, `doctor.finding`, `sinks`, `keys`.
"""
