"""Shows task metrics in the Trainer's own console, progress bar and notebook table.

In: the snapshot of a log event, and the logs that the Trainer gives its callbacks. Out: printed lines and table cells.

May import: `keys`, `patterns`, `snapshot`, `_util`.
"""

from __future__ import annotations

from mtask_sinks.console.callbacks import attach_console as attach_console
from mtask_sinks.console.callbacks import print_partial as print_partial
from mtask_sinks.console.view import Console as Console
from mtask_sinks.console.view import Style as Style
