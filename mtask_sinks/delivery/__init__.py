"""Delivers snapshots from the journal to the sinks.

`pipeline` writes snapshots to the journal and starts one `worker` per sink: a thread that reads the journal and calls
the sink. While the backend is down, it repeats the call. `progress` holds how far a worker has got, and `cursor` saves
that beside the journal for other processes. `run_targets` finds the backend run to which a run goes. `replay` delivers
the snapshots that a training could not deliver. `status` reads how far the sinks of any training have got.

May import: `journal`, `sinks`, `snapshot`, `errors`, `_util`.
"""
