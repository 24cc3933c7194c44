"""Merges the windows of all ranks into one.

In: this rank's states. Out: the states of the whole job. This takes one collective per log event, another one if a
reducer or a spread needs a maximum or minimum, and a gather for reducers that need all values. The ranks exchange names
only when one of them has a new key or phase.

May import: `aggregation`, `measurement`, `reducers`, `errors`, `_util`.
"""
