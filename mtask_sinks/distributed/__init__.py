"""The other ranks: one window out of the windows of all.

This rank's states come in, the states of the whole job go out, with one collective per log event (two where a reducer
needs a maximum or minimum). The ranks exchange names only when one of them has a new key.

May import: `aggregation`, `reducers`, `errors`.
"""
