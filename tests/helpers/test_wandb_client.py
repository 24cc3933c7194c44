"""The end of W&B's client: also of one that hangs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import wandb

from helpers import wandb_client
from helpers.wandb_client import end_wandb_client


@pytest.mark.usefixtures("wandb_dir")
def test_a_client_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb.init(settings=wandb.Settings(console="off"))
    (process,) = wandb_client._children("wandb-core")
    os.kill(process, signal.SIGSTOP)
    monkeypatch.setattr(wandb_client, "_SECONDS", 1.0)
    end_wandb_client()
    assert wandb_client._children("wandb-core") == []
    assert not Path(f"/proc/{process}").exists()
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]
