"""The ways in which a model reports metrics.

`api` has the function `report_metrics`. `binding` gives modules their ``self.report_metrics``. `modules_beside` finds
modules that a trainer has beside its model. `capture` takes losses from the outputs of models that report nothing.

In: a task, names and values. Out: the same, to a `Reporter`, which is a registry or a test.

May import: `measurement`, `keys`, `patterns`, `errors`, `_util`.
"""
