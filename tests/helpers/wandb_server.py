"""A small W&B server for W&B's real client: it stores runs and rows, and a client can resume a run.

The client first asks by GraphQL whether a run exists, and creates it. Then it streams each file of the run as lines,
with an offset. The server accepts and ignores everything else (telemetry, output, system metrics). A test can take the
server down for a while, or let it answer with errors.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from helpers.local_server import LocalServer

_ENTITY = {"id": "1", "name": "entity"}


@dataclass
class ServedRun:
    """One run on the server."""

    name: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return the global steps and values of a column."""
        return [(row["train/global_step"], row[name]) for row in self.history if name in row]


class WandbServer:
    """The server, with its runs by id and its address for ``WANDB_BASE_URL``."""

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        #: Number of requests answered with an error since the last call of `fail`.
        self.failed = 0
        #: Run → status and message with which the server refuses to open it.
        self.refused: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()  # each request has its own thread, and all count down the same errors
        self._error: tuple[int, str, int | None] = (0, "", 0)
        self._server = LocalServer(_handler(self))
        self.url = self._server.url

    def start(self) -> None:
        """Answer from now on, with the same runs as before."""
        self._server.open()

    def stop(self) -> None:
        """Refuse connections, and cut the open ones."""
        self._server.close()

    def end(self) -> None:
        """Stop, and release the port."""
        self._server.end()

    def fail(self, status: int, path: str = "", times: int | None = None) -> None:
        """Answer requests whose path contains ``path`` (``graphql``, ``file_stream``) with an error: the next ``times``
        of them, or all until `heal`."""
        with self._lock:
            self._error, self.failed = (status, path, times), 0

    def heal(self) -> None:
        """Answer without errors again."""
        self.fail(0, times=0)

    def error_for(self, path: str) -> int:
        """Return the error status for a request, or 0."""
        with self._lock:
            status, part, left = self._error
            if part not in path or left == 0:
                return 0
            self._error = (status, part, None if left is None else left - 1)
            self.failed += 1
            return status

    def settings(self, run_id: str | None = None) -> dict[str, str]:
        """Return variables for a process that writes here and sends every second, into one run if you pass its id."""
        one_run = {} if run_id is None else {"WANDB_RUN_ID": run_id, "WANDB_RESUME": "allow"}
        return {
            "WANDB_MODE": "online",
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            **one_run,
        }

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a GraphQL request."""
        name, project = str(variables.get("name")), {"id": "1", "name": "project", "entity": _ENTITY}
        if operation == "Viewer":
            return {
                "viewer": {**_ENTITY, "entity": "entity", "username": "user", "flags": "{}", "teams": {"edges": []}}
            }
        if operation == "RunResumeStatus":
            return {"model": {**project, "bucket": self._resumable(name)}}
        if operation == "UpsertBucket":
            run = self.runs.setdefault(name, ServedRun())
            run.name = variables.get("displayName") or run.name
            run.config = {key: item["value"] for key, item in json.loads(variables.get("config") or "{}").items()}
            bucket = {"id": name, "name": name, "displayName": name, "project": project, "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run.history)}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables.get("files", [])]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}}

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Store lines of a run's files."""
        run = self.runs.setdefault(run_id, ServedRun())
        files = body.get("files") or {}
        if history := files.get("wandb-history.jsonl"):
            run.history[history["offset"] :] = [json.loads(line) for line in history["content"]]
        if summary := files.get("wandb-summary.json"):
            run.summary = json.loads(summary["content"][-1])
        if body.get("complete"):
            run.exit_code = body["exitcode"]

    def _resumable(self, name: str) -> dict[str, Any] | None:
        run = self.runs.get(name)
        if run is None:
            return None
        tail = [json.dumps(row) for row in run.history[-1:]]
        counts = {"historyLineCount": len(run.history), "logLineCount": 0, "eventsLineCount": 0}
        config = {key: {"value": value} for key, value in run.config.items()}
        texts = {"summaryMetrics": run.summary, "config": config, "historyTail": tail, "eventsTail": []}
        dumped = {key: json.dumps(value) for key, value in texts.items()}
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "wandbConfig": '{"t": 1}',
            "tags": [],
            **counts,
            **dumped,
        }


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Provide a server on a free port of this machine."""
    server = WandbServer()
    try:
        server.start()
        yield server
    finally:
        server.end()


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({})

        def do_PUT(self) -> None:
            self._body()
            self._send({})

        def do_POST(self) -> None:
            body = self._body()
            if status := server.error_for(self.path):
                self._send({"error": "injected"}, status)
                return
            if self.path == "/graphql":
                request = json.loads(body)
                named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                operation = request.get("operationName") or (named[1] if named else "")
                variables = request.get("variables") or {}
                if operation == "UpsertBucket" and variables.get("name") in server.refused:
                    status, message = server.refused[variables["name"]]
                    self._send({"errors": [{"message": message}], "data": {"upsertBucket": None}}, status)
                    return
                self._send({"data": server.answer(operation, variables)})
                return
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(body))
            self._send({})

        def log_message(self, *args: Any) -> None:
            """Print nothing."""

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _send(self, answer: dict[str, Any], status: int = 200) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler
