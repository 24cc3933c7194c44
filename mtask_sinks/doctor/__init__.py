"""Finds what is wrong with a training and says how to remedy it: in its script, which is only read, or in its journal.

In: the path of a script or of a journal. Out: an `Examination` with findings, each with a place and a remedy.

May import: `analysis`, `journal`, `delivery`, `sinks`, `keys`, `snapshot`, `errors`, and `mtask_sinks.__all__`. It
knows neither trainer nor registry, and runs nothing of a script.
"""
