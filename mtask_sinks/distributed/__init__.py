"""Merges the windows of all ranks into one.

In: this rank's states. Out: the states of the whole job. This takes one collective per log event, or two if a reducer
needs a maximum or minimum. The ranks exchange names only when one of them has a new key.

May import: `aggregation`, `reducers`, `errors`.
"""
