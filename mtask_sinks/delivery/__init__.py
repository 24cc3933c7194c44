"""Delivers snapshots from the journal to the sinks.

`pipeline` writes snapshots to the journal and starts one `worker` per sink: a thread that reads the journal and calls
the sink, again and again while the backend is down. `progress` holds how far a worker has got; `saved_cursor` keeps
that in a file, and `status` reads it from any process. `shared_sink` lets one worker at a time call a sink. `patience`
and `ending` wait for workers. `replay` delivers a journal after the training; `trust` and `own_record` keep a journal
from somebody else from choosing where the replay writes. `publisher` copies the journal to another place.

May import: `journal`, `sinks`, `snapshot`, `note`, `errors`, `_util`.
"""
