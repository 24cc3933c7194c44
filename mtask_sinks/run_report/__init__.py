"""What trainings came to, computed from their journals and checkpoints, whatever shows it."""

from mtask_sinks.run_report.report import Report, RunReport, make_report

__all__ = ["Report", "RunReport", "make_report"]
