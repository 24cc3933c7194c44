"""``metrics.jsonl``: the local record of every snapshot, which outlives the process.

`records` converts snapshots, run starts and run ends to lines, and `decode` converts lines back and checks them.
`writer` appends the lines; `stream` gives them to the threads of the same process. `claim` gives each process that
writes a file of its own. `lines` reads the file for `reader`, which follows it from any process, and for `history`,
which returns the whole file as runs; `sampling` picks some lines of many. `run_start` decides whether a run is new,
resumed or continued. All data that leaves a training goes through this file.

May import: `snapshot`, `note`, `keys`, `errors`, `_util`.
"""
