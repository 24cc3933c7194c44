"""``metrics.jsonl``: the local record of every snapshot, which outlives the process.

`records` turns snapshots, and the beginnings and ends of runs, into lines and back. `writer` appends the lines;
`stream` gives them to the threads of the same process. `lines` goes through the file for everybody who reads it:
`reader` follows the file from any process, `history` reads all of it as runs. `run_start` decides whether a run is a
new one, a resumed one or a continued one. Everything that leaves a training goes through this file.

May import: `snapshot`, `keys`, `errors`, `_util`.
"""
