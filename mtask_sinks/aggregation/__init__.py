"""A window: what was reported for one phase since its last log event, key by key.

Entries come in; one state per key goes out, and from the states of all ranks the values of a snapshot. `window` holds
an accumulator per key, `key_table` says which keys there may be, `summarize` computes values from states.

May import: `measurement`, `reducers`, `keys`, `patterns`, `errors`, `_util`.
"""
