"""Computes a report on several trainings: their final and best values, and what is wrong with them.

In: labelled trainings (`analysis.selection`), their journals, checkpoints and the sinks' cursors. Out: a frozen
`Report`, which `charts.html` shows and ``mtask-sinks report --json`` prints.

May import: the rest of `analysis`, `delivery`, `directions`, `keys`, `_util`.
"""

from mtask_sinks.analysis.report.build import make_report
from mtask_sinks.analysis.report.contents import Report, RunReport
from mtask_sinks.analysis.report.tasks import TaskCourse, TaskRow

__all__ = ["Report", "RunReport", "TaskCourse", "TaskRow", "make_report"]
