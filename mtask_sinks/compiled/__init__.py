"""Carries reports out of code under ``torch.compile``.

In: a report, while the compiler traces it. Out: its values, each time the graph runs. `packing` is traced into the
graph: it puts the values into one vector. `operator` runs inside the graph: it gives the vector to the registry, which
it finds by a number from `handles`.

May import: `measurement`. The registry imports `packing` only while a report is traced.
"""
