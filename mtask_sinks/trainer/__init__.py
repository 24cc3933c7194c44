"""The Hugging Face Trainer: from the events of its life to snapshots, log rows and sinks.

`mixin` overrides what a Trainer has to do differently, `session` holds what one trainer does about metrics,
`backend_runs` attaches the sinks to the runs that the Trainer's own callbacks open. Here everything meets: this room
knows the registry and the sinks, and computes no metric itself.

May import: `console`, `delivery`, `registry` and what these import. Only `demo` and `cli` import this room.
"""
