"""The console: how the Trainer's own callbacks show task metrics while it trains."""

from __future__ import annotations

from mtask_sinks.console.callbacks import Console as Console
from mtask_sinks.console.callbacks import Style as Style
