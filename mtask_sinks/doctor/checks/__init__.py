"""The checks, one function per check. The first line of its docstring is its title, here and in docs/doctor.md.

In: a `Script` or a `RecordedTraining`. Out: `Observation` objects, which say where, what is wrong, and how to fix it.

May import: every module of `doctor` except `listing` and `examination`, and what that room may import.
"""
