"""Exports a journal with one row per value: ``from mtask_sinks.export import to_frame``."""

from __future__ import annotations

from mtask_sinks.analysis.export import measurements, to_frame, write_csv, write_file
from mtask_sinks.analysis.series import Measurement
from mtask_sinks.errors import ExportError

__all__ = ["ExportError", "Measurement", "measurements", "to_frame", "write_csv", "write_file"]
