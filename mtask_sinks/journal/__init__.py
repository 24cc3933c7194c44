"""``metrics.jsonl``: the local record of every snapshot, which outlives the process.

`records` converts snapshots, run starts and run ends to lines and back. `writer` appends the lines; `stream` gives them
to the threads of the same process. `lines` reads the file for `reader`, which follows it from any process, and for
`history`, which returns the whole file as runs. `run_start` decides whether a run is new, resumed or continued. All
data that leaves a training goes through this file.

May import: `snapshot`, `keys`, `errors`, `_util`.
"""
