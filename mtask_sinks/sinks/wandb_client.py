"""Opens runs with W&B's client, and tells what the client knows of them."""

from __future__ import annotations

import inspect
import netrc
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks.errors import NoSuchRun, NotReady, Rejected
from mtask_sinks.sinks.health import check_connection

if TYPE_CHECKING:
    from wandb import Run

# What W&B's server says of a run that it will not open: somebody deleted it, or it belongs to another account.
_NO_SUCH_RUN = re.compile("previously created and deleted|not found during upsertBucket|^permission denied$")
# How long W&B's server may take to accept a connection.
_CONNECT_SECONDS = 10.0


def path_of(run: Run) -> str:
    """Return the path by which another process finds a run, also in another project than its own.

    Offline, W&B may not know the entity. Then the path begins with the project.
    """
    return "/".join(part for part in (run.entity, run.project, run.id) if part)


def place_of(path: str) -> dict[str, str]:
    """Return the arguments of ``wandb.init`` that name a run.

    >>> place_of("us/prices/0a1b")
    {'id': '0a1b', 'project': 'prices', 'entity': 'us'}
    >>> place_of("0a1b")
    {'id': '0a1b'}
    """
    return dict(zip(("id", "project", "entity"), reversed(path.rsplit("/", 2)), strict=False))


def client_settings(run: Run | None) -> dict[str, str]:
    """Return where the client of this run stores it, for another run. The user may have set this for one run only.

    Without it, W&B would ask a server although the user works offline.
    """
    if run is None or not run.offline:
        return {}
    return {"mode": "offline", "dir": run.settings.root_dir}


def open_run(init: Mapping[str, Any]) -> Run:
    """Call ``wandb.init`` with these arguments.

    Raises:
        NotReady: the run has a fixed id, and no server answers.
        Exception: the client's own errors.
    """
    import wandb

    check_server(init)
    try:
        return wandb.init(**init)
    except Exception as error:
        if not str(error).endswith("is in use"):
            raise
        raise RuntimeError(
            f"{error}: W&B's client opens it no more in this process, after a try that failed, or because other code "
            "has it open. A replay in another process delivers its rows"
        ) from error


def keep_from_init(run: Run) -> None:
    """Keep the user's next ``wandb.init`` from returning this run instead of a new one.

    The run of an evaluation outside of a training is open until the next training of its trainer. It is not
    ``wandb.run``, but W&B would take it for the previous run. This method is private; W&B offers no other way.
    """
    import wandb

    wandb.setup().remove_active_run(run)


def why_lost(path: str, error: Exception, was_finished: bool) -> tuple[type[Exception], str] | None:
    """Return the kind and the text of the error, if W&B will not open a run again; ``None`` if another try may help.

    Args:
        path: the run.
        error: what `open_run` raised.
        was_finished: whether this process had finished the run.
    """
    from wandb.errors import CommError, UsageError

    if isinstance(error, (CommError, NotReady, UsageError, OSError)):
        reason = str(error).partition("\n")[0]
        if not _NO_SUCH_RUN.search(reason):
            return None  # the server may come back, and the user may log in
        return NoSuchRun, f"W&B does not open the run {path}, which is deleted or belongs to another account: {reason}"
    if was_finished:
        return Rejected, f"the W&B run {path} was finished and cannot be opened again: {error}"
    return None


def check_server(init: Mapping[str, Any]) -> None:
    """Check that W&B's server accepts connections, before a run with a fixed id is opened.

    If such a try fails, W&B's client (0.31) opens no run of this id any more while the process lives.

    Raises:
        NotReady: the server cannot be reached.
    """
    import wandb

    settings = wandb.setup().settings
    has_own_address = "settings" in init or settings.http_proxy or settings.https_proxy
    is_online = (init.get("mode") or settings.mode) == "online"
    if is_online and not has_own_address and ("id" in init or "WANDB_RUN_ID" in os.environ):
        check_connection(settings.base_url, _CONNECT_SECONDS)


def default_setting(variable: str) -> str | None:
    """Return the value of a variable, or what the Trainer's callback uses without it."""
    return os.environ.get(variable, "huggingface" if variable == "WANDB_PROJECT" else None)


def is_finished(run: Run) -> bool:
    """Return whether the run takes no more rows. The attribute is private; W&B offers no other way to ask."""
    return bool(getattr(run, "_is_finished", False))


def is_safe(run: Run) -> bool:
    """Return whether all rows of the run are stored permanently: in W&B's file, or on its server.

    This also returns True for a run with ``mode="disabled"``: the user wants no rows, so none is missing.
    """
    # This attribute is private too. If W&B drops it, the sink gets rows again and leaves out those that exist.
    is_sent = is_finished(run) and not getattr(run, "_finish_timed_out", True)
    return bool(is_sent or run.offline or run.disabled)


def has_netrc_entry(url: str) -> bool:
    """Return whether the user has run ``wandb login``, which stores the key in the user's netrc file."""
    try:
        path = os.environ.get("NETRC")
        return netrc.netrc(path).authenticators(urlsplit(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def check_names(init: Mapping[str, Any]) -> None:
    """Raise an error for a name that is no argument of ``wandb.init``. Later on, it would look like an outage."""
    import wandb

    allowed = inspect.signature(wandb.init).parameters
    for name in init:
        if name not in allowed and not any(each.kind is each.VAR_KEYWORD for each in allowed.values()):
            hint = did_you_mean(name, allowed)
            raise TypeError(f"WandbSink({name}=...): wandb.init has no argument {name!r}.{hint}")
