"""A server that replaces the Hub: it creates repositories, and tells which files a commit ignores, as `git` does."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class HubServer(ThreadingHTTPServer):
    """Keeps the names of the files of every commit.

    Attributes:
        commits: the paths of each commit, oldest first.
    """

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: list[list[str]] = []
        self.repository = directory
        self.lock = threading.Lock()
        subprocess.run(["git", "init", "--quiet", str(directory)], check=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ignored(self, rules: str, path: str) -> bool:
        """Ask git whether rules of a .gitignore leave out a path."""
        with self.lock:
            (self.repository / ".gitignore").write_text(rules)
            command = ["git", "-C", str(self.repository), "check-ignore", "--quiet", path]
            return subprocess.run(command, check=False).returncode == 0


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/repos/create":
            return self._answer({"url": f"{self.server.url}/me/model", "name": "me/model", "id": "me/model"})
        if "/preupload/" in self.path:
            asked = json.loads(body)
            rules = asked.get("gitIgnore") or ""
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "regular",
                    "shouldIgnore": self.server.ignored(rules, each["path"]),
                }
                for each in asked["files"]
            ]
            return self._answer({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        self.server.commits.append([line["value"]["path"] for line in lines if line["key"] == "file"])
        oid = f"{len(self.server.commits):040d}"
        return self._answer({"commitUrl": f"{self.server.url}/me/model/commit/{oid}", "commitOid": oid})

    def do_GET(self) -> None:
        self._answer({"name": "me", "type": "user", "id": "me/model", "sha": "0" * 40, "siblings": []})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def hub_server(directory: Path) -> Iterator[HubServer]:
    """Run a Hub on loopback."""
    server = HubServer(directory)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
