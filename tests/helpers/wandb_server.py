"""A W&B server of a few answers, for W&B's real client: it takes runs and rows, and lets a run be resumed.

The client asks over GraphQL (is there such a run? make one), then streams each of the run's files as lines with an
offset. What else it sends (its own telemetry, output, system metrics) is accepted and forgotten.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ENTITY = {"id": "1", "name": "entity"}


@dataclass
class ServedRun:
    """What the server has of one run."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def points(self, name: str) -> list[tuple[int, float]]:
        """Global step and value of a column."""
        return [(row["train/global_step"], row[name]) for row in self.history if name in row]


class WandbServer:
    """Runs by id, and the address for ``WANDB_BASE_URL``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runs: dict[str, ServedRun] = {}

    def settings(self, run_id: str) -> dict[str, str]:
        """Environment of a process that writes to this server, into one run, and sends every second."""
        return {
            "WANDB_MODE": "online",
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_RUN_ID": run_id,
            "WANDB_RESUME": "allow",
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        }

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL request."""
        name, project = str(variables.get("name")), {"id": "1", "name": "project", "entity": _ENTITY}
        if operation == "Viewer":
            return {
                "viewer": {**_ENTITY, "entity": "entity", "username": "user", "flags": "{}", "teams": {"edges": []}}
            }
        if operation == "RunResumeStatus":
            return {"model": {**project, "bucket": self._resumable(name)}}
        if operation == "UpsertBucket":
            run = self.runs.setdefault(name, ServedRun())
            run.config = {key: item["value"] for key, item in json.loads(variables.get("config") or "{}").items()}
            bucket = {"id": name, "name": name, "displayName": name, "project": project, "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run.history)}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables.get("files", [])]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}}

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Take lines of a run's files."""
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
    """A server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({})

        def do_PUT(self) -> None:
            self._body()
            self._send({})

        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/graphql":
                request = json.loads(body)
                named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                operation = request.get("operationName") or (named[1] if named else "")
                self._send({"data": server.answer(operation, request.get("variables") or {})})
                return
            if self.path.endswith("/file_stream"):
                server.stream(self.path.split("/")[-2], json.loads(body))
            self._send({})

        def log_message(self, *args: Any) -> None:
            """Quietly."""

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _send(self, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """A client that was killed leaves its connections open."""

    http = Server(("127.0.0.1", 0), Handler)
    server = WandbServer(f"http://127.0.0.1:{http.server_port}")
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
