"""Alerts: rules on reduced values, and what happens when one holds.

In: an `alert` from the user's code or from text (`parsing`), and the snapshots of a training and its evaluations. Out:
an event when a rule begins to hold, and one when it no longer holds; both become a line in the log and a note in the
journal. `rules` judges one value, `episodes` remembers which rules hold, and `webhook` sends events.

May import: `analysis.trends`, `sinks.base`, `directions`, `patterns`, `keys`, `snapshot`, `note`, `_util`.
"""
