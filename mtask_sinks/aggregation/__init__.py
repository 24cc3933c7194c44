"""Windows, which collect the reports of a phase since its last log event.

In: entries. Out: one state per key, and the values of a snapshot, from the states of all ranks. `window` holds one
accumulator per key, `key_table` knows which keys are allowed, and `summarize` computes values from states.

May import: `measurement`, `reducers`, `keys`, `patterns`, `errors`, `_util`.
"""
