"""What a model calls.

`api` is the function `report_metrics`, `binding` gives flagged modules their ``self.report_metrics``, `capture` takes
losses from the outputs of models that report nothing. All three pass on a task and a mapping of names to values, to
whatever takes reports (`Reporter`): a registry, or a test.

May import: `measurement`, `keys`, `patterns`, `errors`, `_util`.
"""
