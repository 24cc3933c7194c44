"""The names of reducers that a test of all reducers takes."""

from __future__ import annotations

from mtask_sinks.reducers import known_reducers
from mtask_sinks.reducers.lookup import is_builtin

#: Every built-in reducer, and a percentile.
NAMES = [*filter(is_builtin, known_reducers()), "p90"]
