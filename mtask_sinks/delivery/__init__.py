"""From the journal to the sinks.

`pipeline` writes snapshots to the journal and starts a `worker` per sink: a thread that reads the journal and calls
the sink, again and again while the backend is away. `progress` holds how far a worker is, `cursor` keeps that beside
the journal for other processes. `run_targets` finds the backend run that each run goes to. `replay` delivers what was
left when a training ended. `status` reads how far the sinks of any training are.

May import: `journal`, `sinks`, `snapshot`, `errors`, `_util`.
"""
