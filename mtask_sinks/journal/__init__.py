"""``metrics.jsonl``: the local record of every snapshot, which outlives the process.

`records` converts snapshots, run starts and run ends to lines, and `decode` converts lines back and checks them.
`writer` appends the lines; `stream` gives them to the threads of the same process. `claim` keeps two processes from
writing to the same file. `paths` finds journals, `reader` follows one from any process, `history` returns all its runs.
`run_start` decides whether a run is new, resumed or continued. All data that leaves a training goes through this file.

May import: `snapshot`, `note`, `keys`, `errors`, `_util`.
"""
