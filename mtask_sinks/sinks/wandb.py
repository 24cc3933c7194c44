"""Writes metrics to Weights & Biases."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mtask_sinks.errors import NotReady
from mtask_sinks.keys import backend_name, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_url, check_writable
from mtask_sinks.sinks.lookup import require_backend
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from wandb import Run

#: The x axis of every chart. The Trainer's own callback uses the same name.
STEP = "train/global_step"

# Hidden columns: the step of each phase's last row, and the time of the very last row. W&B's summary keeps the last
# value of every column, so a later process knows which rows the run has. `STEP` cannot do this, because the user may
# write it too.
_HIDDEN = "_mtask_sinks/"
_HIDDEN_TIME = f"{_HIDDEN}(time)"

# Totals of the Trainer. Its own callback writes them to the summary of the run, not to rows.
_TOTALS = frozenset(["train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"])

_EXIT_CODES = {"finished": 0, "failed": 1, "killed": 137}

# Variables that another process needs to find the run again.
_VARIABLES = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE")


class WandbSink(Sink):
    """Writes rows to the history of a W&B run, one section per task.

    >>> sink = WandbSink()                          # charts: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    The sink writes each snapshot as one row with a column ``train/global_step``. It never passes ``step=``, because
    W&B would then drop rows or merge them with others. If the process has an open run, the sink writes to it. Otherwise
    it opens a run with the training's name and parameters and finishes it, with exit code 1 if training failed and 137
    if it was killed.

    A row counts as delivered when W&B's client has accepted it. The client stores the row in a file and sends it later:
    every 15 s, or every ``WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL``. If the process is killed, the next resume or replay
    delivers the rows of the run again, except those that the server has. To know them, the sink writes the steps to
    hidden columns, ``_mtask_sinks/<phase>``. So online, each row exists once. Offline, the client does not know which
    rows a server has: rows that the sink sends again exist twice after a sync of both files. Rows that the client had
    not written to its file when it was killed exist only in the journal.

    Args:
        project: project of a run that the sink opens; by default ``WANDB_PROJECT``, else ``huggingface``.
        **init: further arguments of ``wandb.init`` for a run that the sink opens.
    """

    name = "wandb"

    def __init__(self, project: str | None = None, **init: Any) -> None:
        require_backend(self.name)
        self._init = {**init, "project": project or os.environ.get("WANDB_PROJECT", "huggingface")}
        self._run = RunInfo()
        self._run_id: str | None = None
        self._is_owner = False
        self._opened: Run | None = None
        #: Phase → step of the last row that the run held when the sink opened it.
        self._written_steps: dict[str, int] = {}
        #: The time of the very last row at that moment.
        self._written_until = 0.0
        #: First segments of the names whose x axis is defined.
        self._groups: set[str] = set()
        #: Runs written to in this process whose rows may not survive it.
        self._unsafe: list[Run] = []

    def open(self, run: RunInfo) -> None:
        import wandb

        is_same = run.id == self._run.id and self._run_id is not None
        existing = run.existing(self.name) or (self._run_id if is_same else None)
        current = wandb.run
        if existing is None:
            self._opened = self._start_run(run)
            self._is_owner = True
        elif current is not None and current.id == existing:
            self._opened = current
            self._is_owner = False
        elif self.name in run.attached:
            raise RuntimeError(
                f"the W&B run {existing} is no longer open in this process. Do not finish it before the training ends."
            )
        else:
            resume = {"id": existing, "resume": "allow", "reinit": "create_new"}
            self._opened = wandb.init(**{**self._init, **resume})
            self._is_owner = True
            # The process that opened the run may have ended before it had sent all parameters.
            config = dict(self._opened.config)
            missing = {key: value for key, value in run.params.items() if key not in config}
            self._opened.config.update(missing)  # type: ignore[no-untyped-call]
        if not is_same:
            may_hold_rows = self._opened.resumed and not self._opened.offline
            self._written_steps, self._written_until = _written_rows(self._opened) if may_hold_rows else ({}, 0.0)
        self._groups.clear()
        self._run, self._run_id = run, self._opened.id
        self._unsafe = [*(used for used in self._unsafe if used is not self._opened), self._opened]

    def write(self, snapshot: Snapshot) -> None:
        if self._opened is None:
            raise RuntimeError("WandbSink is not open. Call open() first.")
        row: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self.name not in self._run.logged:
            for log, value in snapshot.logs.items():
                if log in _TOTALS:
                    self._opened.summary[log] = value
                else:
                    row[trainer_log_name(log)] = value
        if row and not self._is_written(snapshot):
            self._define_groups(self._opened, row)
            hidden = {_HIDDEN + snapshot.phase: snapshot.step, _HIDDEN_TIME: snapshot.time}
            self._opened.log({**row, STEP: snapshot.step, **hidden})

    def close(self, status: Status) -> None:
        opened, self._opened = self._opened, None
        if self._is_owner and opened is not None:
            opened.finish(exit_code=_EXIT_CODES[status])

    def target(self) -> str | None:
        return self._run_id

    def survives(self) -> bool:
        self._unsafe = [run for run in self._unsafe if not _is_safe(run)]
        return not self._unsafe

    def environment(self) -> Mapping[str, str]:
        return {name: os.environ[name] for name in _VARIABLES if name in os.environ}

    def check(self, run: RunInfo, seconds: float) -> str | None:
        import wandb

        settings = wandb.setup().settings
        mode = self._init.get("mode", settings.mode)
        if mode == "disabled":
            raise NotReady("W&B is disabled and would write nothing. Set WANDB_MODE to online or offline.")
        if mode in ("offline", "dryrun"):
            return f"offline: {check_writable(Path(self._init.get('dir') or settings.wandb_dir))} can be written"
        check_url(settings.base_url, seconds)
        if not settings.api_key and not _has_netrc_entry(settings.base_url):
            raise NotReady(
                f"{settings.base_url} answers, but there is no API key. Run: wandb login, or set WANDB_MODE=offline"
            )
        return f"{settings.base_url} answers, and there is an API key"

    def _start_run(self, run: RunInfo) -> Run:
        import wandb

        config = dict(run.params)
        opened = wandb.init(**{"name": run.name, "config": config, "reinit": "create_new", **self._init})
        opened.define_metric(STEP)
        opened.define_metric("*", step_metric=STEP, step_sync=True)
        return opened

    def _define_groups(self, opened: Run, row: Mapping[str, Any]) -> None:
        """Set the x axis for the charts of new groups. In the user's own run, nobody else has set it."""
        groups = {name.partition("/")[0] for name in row if "/" in name} - self._groups
        if groups and not self._groups:
            opened.define_metric(STEP)
        for group in sorted(groups):
            opened.define_metric(f"{group}/*", step_metric=STEP)
        self._groups |= groups

    def _is_written(self, snapshot: Snapshot) -> bool:
        """Return whether the run held this row when the sink opened it: this snapshot, or this step before a resume."""
        if snapshot.time and snapshot.time <= self._written_until:
            return True
        resumed_at = self._run.step
        return bool(resumed_at) and resumed_at < snapshot.step <= self._written_steps.get(snapshot.phase, 0)


def _is_safe(run: Run) -> bool:
    """Return whether all rows of the run are stored for good: in W&B's file, or on its server."""
    # The two attributes are private. If W&B drops them, the sink gets rows again and leaves out those that exist.
    is_sent = getattr(run, "_is_finished", False) and not getattr(run, "_finish_timed_out", True)
    return bool(is_sent or run.offline)


def _written_rows(run: Run) -> tuple[dict[str, int], float]:
    """Return for each phase the step of its last row, and the time of the very last row."""
    hidden = {name: value for name, value in dict(run.summary).items() if name.startswith(_HIDDEN)}
    until = float(hidden.pop(_HIDDEN_TIME, 0.0))
    return {name.removeprefix(_HIDDEN): step for name, step in hidden.items()}, until


def _has_netrc_entry(url: str) -> bool:
    """Return whether the user has run ``wandb login``, which stores the key in the user's netrc file."""
    try:
        path = os.environ.get("NETRC")
        return netrc.netrc(path).authenticators(urlsplit(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
