"""What W&B's client needs before it opens a run, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from helpers.wandb_server import WandbServer, wandb_server

from mtask_sinks.errors import NotReady
from mtask_sinks.sinks.wandb_client import check_server, open_run


@pytest.fixture
def server(wandb_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Provide a server for the client, which gives up after 3 s."""
    with wandb_server() as served:
        for name, value in {**served.settings(), "WANDB_INIT_TIMEOUT": "3"}.items():
            monkeypatch.setenv(name, value)
        yield served
        wandb.finish()


def test_a_run_that_the_client_opens_no_more_says_so(server: WandbServer) -> None:
    server.fail(500)
    with pytest.raises(wandb.errors.CommError):
        open_run({"id": "r"})
    server.heal()
    with pytest.raises(RuntimeError, match=r"run ID r is in use: W&B's client opens it no more in this process, after"):
        open_run({"id": "r"})


def test_only_a_run_with_a_fixed_id_needs_a_server_before(server: WandbServer, monkeypatch) -> None:
    server.stop()
    check_server({})
    check_server({"id": "r", "mode": "offline"})
    check_server({"id": "r", "settings": wandb.Settings(base_url="http://127.0.0.1:9")})
    with pytest.raises(NotReady, match=f"^{server.url} cannot be reached"):
        check_server({"id": "r"})
    monkeypatch.setenv("WANDB_RUN_ID", "r")
    with pytest.raises(NotReady, match="cannot be reached"):
        check_server({})


def test_a_server_behind_a_proxy_is_not_asked_before(server: WandbServer, monkeypatch) -> None:
    server.stop()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    check_server({"id": "r"})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(NotReady, match="cannot be reached"):
        check_server({"id": "r"})
