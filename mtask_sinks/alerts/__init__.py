"""Alerts: rules on reduced values, and what happens when one holds.

In: the snapshots of a training and its evaluations. Out: events, one when a rule begins to hold and one when it is
over. Each becomes a line of the log and a note in the journal.

`alert` is what the user writes, `parsing` reads it from a command line, `rules` decides, `episodes` remembers what
holds, `webhook` sends events in the delivery's threads. The words behind `no_improvement` and `diverged` are those of
`mtask_sinks.analysis.trends`.

May import: `analysis.trends`, `sinks.base`, `directions`, `patterns`, `keys`, `snapshot`, `note`, `_util`.
"""
