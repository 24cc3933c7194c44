"""From the journal to the sinks.

Each sink has a worker, a thread that reads the journal and calls the sink, however long its backend is away; a cursor
beside the journal says how far it got. What is left when a training ends can be delivered later (`replay`).

May import: `journal`, `sinks`, `snapshot`, `errors`, `_util`.
"""
