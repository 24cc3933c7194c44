"""Delivers snapshots from the journal to the sinks.

`pipeline` writes snapshots to the journal and starts one `worker` per sink: a thread that reads the journal and calls
the sink. While the backend is down, it repeats the call. `patience` waits for workers at log events and evaluations,
`ending` at the end. `progress` holds how far a worker has got, and `cursor` saves that for other processes.
`run_targets` finds the backend run to which a run goes. `replay` delivers the snapshots that a training could not
deliver; `trust` and `own_record` refuse places that only a journal has chosen. `status` reads how far the sinks of any
training have got. `publisher` copies the journal to another place.

May import: `journal`, `sinks`, `snapshot`, `errors`, `_util`.
"""
