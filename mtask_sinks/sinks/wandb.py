"""Writes metrics to Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks.errors import NotReady
from mtask_sinks.keys import backend_name, trainer_log_name
from mtask_sinks.note import Note
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_url, check_writable
from mtask_sinks.sinks.lookup import require_backend
from mtask_sinks.sinks.wandb_client import (
    check_names,
    check_server,
    client_settings,
    default_setting,
    has_netrc_entry,
    is_finished,
    is_safe,
    keep_from_init,
    open_run,
    path_of,
    place_of,
    why_lost,
)
from mtask_sinks.sinks.wandb_rows import WrittenRows, at_end, hidden_columns, training_column
from mtask_sinks.snapshot import RunInfo, Snapshot, is_same_backend_run

if TYPE_CHECKING:
    from wandb import Run

#: The x axis of every chart. The Trainer's own callback uses the same name.
STEP = "train/global_step"

# Totals of the Trainer. Its own callback writes them to the summary of the run, not to rows.
_TOTALS = frozenset(["train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"])

_EXIT_CODES = {"finished": 0, "failed": 1, "killed": 137}

# Variables that another process needs to find the run again.
_VARIABLES = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE")


class WandbSink(BuiltAnew, Sink):
    """Writes rows to the history of a W&B run, one section per task.

    >>> sink = WandbSink()                          # charts: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    The sink writes each snapshot as one row with a column ``train/global_step``. It never passes ``step=``, because W&B
    would then drop rows or merge them with others. If the trainer's W&B callback has a run, the sink writes to it.
    Otherwise it opens a run with the training's name and parameters and finishes it, with exit code 1 if training
    failed and 137 if it was killed.

    A row counts as delivered when W&B's client has accepted it. The client stores the row in a file and sends it later:
    every 15 s, or every ``WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL``. If the process is killed, the next resume or replay
    of an online run delivers its rows again, except those that the server has. To know later which rows these are, the
    sink writes the number and the step of each row to hidden columns, ``_mtask_sinks/…``. Each row exists once, with
    one exception. The summary on the server says which row was the last one. That row itself may be missing there, so
    the sink sends it again; if it had arrived, it exists twice. For an offline run, the sink sends only the rows after
    its cursor. If you sync the files of both processes, rows that it sent again exist twice. Rows that the client had
    not written to its file when it was killed exist only in the journal.

    If a second training begins in the same run, its steps begin at 1 again. Its rows have the number of the training in
    the column ``train/training``.

    If somebody finishes the run while there are rows to write, the sink opens it again by its id. Offline, this makes
    a second file, with the same parameters and axes. If W&B will never open the run again, the sink rejects its rows.

    Args:
        project: project of the run, whether the sink opens it or the Trainer's callback uses it; by default
            ``WANDB_PROJECT``, else ``huggingface``. It does not change a run that your own code has opened.
        **init: further arguments of ``wandb.init``, for the same runs. In a hyper-parameter search, the callback opens
            the runs without ``project`` and without these.

    Raises:
        TypeError: ``wandb.init`` has no such argument.
        MissingBackendError: the package wandb is not installed.
    """

    name = "wandb"

    def __init__(self, project: str | None = None, **init: Any) -> None:
        require_backend(self.name)
        if init:
            check_names(init)
        self._given = {**init, "project": project} if project else init
        self._init = {"project": default_setting("WANDB_PROJECT"), **self._given}
        self._run = RunInfo()
        self._run_id: str | None = None
        self._is_owner = False
        self._opened: Run | None = None
        #: The column with the number of the training.
        self._training: dict[str, int] = {}
        #: The rows that the run held when the sink opened it.
        self._written = WrittenRows()
        #: The run that was opened last. It may be closed or finished.
        self._last: Run | None = None
        #: Run → kind and text of the error. W&B's client opens no id again in this process that has failed once.
        self._lost: dict[str, tuple[type[Exception], str]] = {}
        #: Number of the last snapshot of the current run; ``None`` if there is none yet.
        self._sequence: int | None = None
        #: First segments of the names whose x axis is defined.
        self._groups: set[str] = set()
        #: Runs to which this process wrote, and whose rows may be lost when the process ends.
        self._unsafe: list[Run] = []

    def _settings(self) -> dict[str, Any]:
        return self._given

    def open(self, run: RunInfo) -> None:
        is_same = run.id == self._run.id and self._run_id is not None
        existing = run.existing(self.name) or (self._run_id if is_same else None)
        if existing is None:
            self._opened = self._start_run(run)
            self._is_owner = True
        elif (found := self._find_open(existing)) is not None:
            self._opened = found
            self._is_owner = self._is_owner and found is self._last
        elif self.name in run.attached and self.name in run.continued:
            raise RuntimeError(f"another process writes to the W&B run {existing}. Wait until it ends.")
        else:
            self._opened = self._resume_run(run, existing)
            self._is_owner = True
        if not is_same:
            self._sequence = None
            may_hold_rows = self._opened.resumed and not self._opened.offline
            self._written = WrittenRows.read(dict(self._opened.summary), run) if may_hold_rows else WrittenRows()
        self._groups.clear()
        self._training = training_column(self._opened.id, run)
        self._run, self._run_id, self._last = run, path_of(self._opened), self._opened
        if self._is_owner and not run.is_training:
            keep_from_init(self._opened)
        self._unsafe = [*(used for used in self._unsafe if used is not self._opened), self._opened]

    def write(self, snapshot: Snapshot) -> None:
        opened = self._open_again()
        if opened is None:
            raise RuntimeError("WandbSink is not open. Call open() first.")
        row: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self.name not in self._run.logged:
            for log, value in snapshot.logs.items():
                if log in _TOTALS:
                    opened.summary[log] = value
                else:
                    row[trainer_log_name(log)] = value
        self._sequence = max(self._sequence or 0, snapshot.sequence)
        if row and not self._written.contains(snapshot):
            self._define_groups(opened, row)
            row |= {
                STEP: snapshot.step,
                **self._training,
                **hidden_columns(snapshot, self._run.id),
            }
            # A plain Trainer logs no row for the steps after its last log event. To keep the number of rows the same,
            # W&B adds the values of a partial window to the next row of the same step.
            opened.log(row, commit=not snapshot.is_partial)

    def note(self, note: Note) -> None:
        """Send an alert through W&B, if ``"wandb"`` is among the actions of the note."""
        actions = note.data.get("actions", ()) if note.kind == "alert" else ()
        if "wandb" in actions and (opened := self._open_again()) is not None:
            level = "ERROR" if "stop" in actions else "WARN"
            opened.alert(title=f"{note.data['key']} ({note.data['rule']})", text=note.message, level=level)

    def close(self, status: Status) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and self._sequence is not None and not is_finished(opened):
            last = max(self._sequence, self._written.sequence)  # a replay of the beginning leaves out the rows after it
            opened.summary.update(at_end(last, self._run.id))
        if self._is_owner and opened is not None:
            opened.finish(exit_code=_EXIT_CODES[status])

    def target(self) -> str | None:
        return self._run_id

    def survives(self) -> bool:
        self._unsafe = [run for run in self._unsafe if not is_safe(run)]
        return not self._unsafe

    def environment(self) -> Mapping[str, str]:
        found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        given = {f"WANDB_{name.upper()}": self._init.get(name) for name in ("entity", "project", "mode")}
        changed = {name: str(value) for name, value in given.items() if value and value != default_setting(name)}
        is_offline = self._last is not None and self._last.offline
        return ({"WANDB_MODE": "offline"} if is_offline else {}) | found | changed

    def start_active_run(self, name: str | None) -> None:
        """Open a run with the settings of this sink, as the open run of this process (``wandb.run``).

        A sink without settings leaves this to the Trainer's callback.

        Raises:
            NotReady: the run has a fixed id, and no server answers.
        """
        import wandb

        check_server(self._given)
        if self._given:
            # With another value of ``reinit``, the run would not become ``wandb.run``.
            wandb.init(**{"project": default_setting("WANDB_PROJECT"), "name": name, **self._given, "reinit": None})

    def check(self, run: RunInfo, seconds: float) -> str | None:
        import wandb

        settings = wandb.setup().settings
        mode = self._init.get("mode", settings.mode)
        if mode == "disabled":
            raise NotReady("W&B is disabled and would write nothing. Set WANDB_MODE to online or offline.")
        if mode in ("offline", "dryrun"):
            return f"offline: {check_writable(Path(self._init.get('dir') or settings.wandb_dir))} can be written"
        check_url(settings.base_url, seconds)
        if not settings.api_key and not has_netrc_entry(settings.base_url):
            raise NotReady(
                f"{settings.base_url} answers, but there is no API key. Run: wandb login, or set WANDB_MODE=offline"
            )
        return f"{settings.base_url} answers, and there is an API key"

    def _start_run(self, run: RunInfo) -> Run:
        config = dict(run.params)
        opened = open_run({"name": run.name, "config": config, "reinit": "create_new", **self._init})
        opened.define_metric(STEP)
        opened.define_metric("*", step_metric=STEP, step_sync=True)
        return opened

    def _open_again(self) -> Run | None:
        """Return the open run, if there is one. If somebody has finished it, open it again."""
        if self._opened is not None and is_finished(self._opened):
            self.open(self._run)
        return self._opened

    def _find_open(self, existing: str) -> Run | None:
        """Return this run if it is open in this process."""
        import wandb

        candidates = (run for run in (wandb.run, self._last) if run is not None)
        known = place_of(existing)["id"]  # a process cannot open two runs of one id
        return next((run for run in candidates if run.id == known and not is_finished(run)), None)

    def _resume_run(self, run: RunInfo, existing: str) -> Run:
        """Open a run of an earlier process, or one that was finished in this process.

        Raises:
            Rejected: W&B will not open it again while this process lives.
            NoSuchRun: it is deleted, or belongs to another account.
            NotReady: no server answers.
        """
        import wandb

        if existing in self._lost:
            kind, text = self._lost[existing]
            raise kind(text)
        last = self._last
        finished = last if last is not None and is_same_backend_run(path_of(last), existing) else None
        # Offline, opening makes a second file, and W&B does not know the name in the first one.
        same = {"name": finished.name} if finished is not None and finished.name else {}
        path = existing if finished is None else max(existing, path_of(finished), key=len)
        resume = {**place_of(path), "resume": "allow", "reinit": "create_new"}
        try:
            opened = open_run({**client_settings(finished or wandb.run), **self._init, **same, **resume})
        except Exception as error:
            lost = why_lost(existing, error, finished is not None)
            if lost is None:
                raise
            self._lost[existing] = kind, text = lost
            raise kind(text) from error
        # The process that opened the run may have ended before it had sent all parameters.
        config = dict(opened.config)
        missing = {key: value for key, value in run.params.items() if key not in config}
        opened.config.update(missing)  # type: ignore[no-untyped-call]
        return opened

    def _define_groups(self, opened: Run, row: Mapping[str, Any]) -> None:
        """Set the x axis for the charts of new groups. In the user's own run, nobody else has set it."""
        groups = {name.partition("/")[0] for name in row if "/" in name} - self._groups
        if groups and not self._groups:
            opened.define_metric(STEP)
        for group in sorted(groups):
            opened.define_metric(f"{group}/*", step_metric=STEP)
        self._groups |= groups
