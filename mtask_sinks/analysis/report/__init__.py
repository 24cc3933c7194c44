"""What trainings came to, computed from their journals and checkpoints, whatever shows it."""

from mtask_sinks.analysis.report.build import Report, RunReport, make_report

__all__ = ["Report", "RunReport", "make_report"]
