"""Alerts: rules on reduced values, and what happens when one becomes true.

In: an `alert` from the user's code or from text (`parsing`), and the snapshots of a training and its evaluations. Out:
an event when a rule becomes true, and one when it is no longer true; both become a line in the log and a note in the
journal. `rules` judges one value, `episodes` remembers which rules are true, and `webhook` sends events.

May import: `analysis.trends`, `sinks.base`, `directions`, `patterns`, `keys`, `snapshot`, `note`, `errors`,
`_util`.
"""
