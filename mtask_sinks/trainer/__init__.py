"""Connects the Hugging Face Trainer with the registry and the sinks. This room computes no metric itself.

In: the events of a Trainer. Out: snapshots, rows in its log, and deliveries to sinks. `mixin` overrides methods of the
Trainer, `session` handles the metrics of one trainer, and `backends` attaches the sinks to the runs that the Trainer's
own callbacks open.

May import: `alerts`, `task_health`, `console`, `delivery`, `registry` and what these import. No other room imports this
one; `demo` uses it as users do, through `mtask_sinks`.
"""
