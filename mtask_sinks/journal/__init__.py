"""``metrics.jsonl``: the local record of every snapshot, which outlives the process.

`records` turns snapshots, and the beginnings and ends of runs, into lines and back. `writer` appends them, `reader`
reads what is there and what is added. Everything that leaves a training goes through this file.

May import: `snapshot`, `keys`, `errors`, `_util`.
"""
