"""Delivers snapshots from the journal to the sinks.

`pipeline` writes snapshots to the journal and starts one `worker` per sink: a thread that reads the journal and calls
the sink, again and again while the backend is down. `progress` holds how far a worker has got; `saved_cursor` keeps
that in a file, and `status` reads it from any process. `shared_sink` lets one worker at a time call a sink. `patience`
and `ending` wait for workers. `replay` delivers a journal after the training; `trust` and `own_record` keep a journal
from somebody else from choosing where the replay writes. `publisher` copies the journal to another place.

Where a worker is, is a number of bytes in the stream of the journal's lines. Every line lies in one of these ranges:

```text
0               safe_position         position         end_position
│ the backend keeps │ written, and may be │ not delivered │ not yet on the disk,
│ these for sure    │ lost with a process │ yet           │ so no worker sees them
```

`Progress` holds the first two numbers and `JournalStream` the third. The file may lack lines of the stream, if the disk
was full or somebody removed the file. So the cursor, which another process reads, holds the offset of `safe_position` in
the file; `StreamOffsets` converts one to the other.

May import: `journal`, `sinks`, `snapshot`, `note`, `errors`, `_util`.
"""
