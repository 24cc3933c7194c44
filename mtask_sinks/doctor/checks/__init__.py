"""The checks, one function each; the first line of its docstring is its title, also in docs/doctor.md.

In: a `Script` or a `Recorded` training. Out: `Seen` objects: where, what is wrong, and how to mend it.

May import: `doctor.script`, `doctor.recorded`, `doctor.finding`, `sinks`, `keys`.
"""
