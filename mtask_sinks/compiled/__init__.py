"""Reports from code under ``torch.compile``.

`packing` is traced into the graph and puts the values of a report into one vector; `operator` runs each time the graph
runs, and hands that vector to the registry, which it finds by a number (`handles`).

May import: `measurement`. The registry imports `packing` only while a report is traced.
"""
