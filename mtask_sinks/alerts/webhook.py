"""Sends alerts to a webhook, in the delivery's thread for this sink, again and again until the address accepts them."""

from __future__ import annotations

import base64
import http.client
import json
import math
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from mtask_sinks.alerts.alert import action_name
from mtask_sinks.errors import Rejected
from mtask_sinks.note import Note
from mtask_sinks.sinks.base import Sink
from mtask_sinks.snapshot import RunInfo, Snapshot

#: How the names of these sinks begin.
NAME_START = "webhook-"

# Seconds until a call counts as failed.
_TIMEOUT = 10.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would repeat the request as a GET without its body, so the alert would be lost."""

    def redirect_request(self, *_: Any) -> None:
        """Return no new request, so that the answer becomes an error."""


class WebhookSink(Sink):
    """Posts to one address, as JSON, the alerts that name it; it takes no metrics.

    >>> sink = WebhookSink("https://hooks.example.com/services/T0/B0/secret")
    >>> sink.address, sink.name
    ('webhook:e5f51b1b', 'webhook-e5f51b1b')

    Each address has a sink of its own, so that one that does not answer, or refuses, is no matter of the others.

    The body has ``text``, the message that Slack, Discord's Slack endpoint and Mattermost show, and the details:
    ``training`` (the name of the run, or else of its output directory), ``step``, ``time``, ``key``, ``phase``,
    ``rule``, ``threshold``, ``value``, ``since``, and ``others`` if the message names other metrics too. An address
    that does not answer gets the alert again later; so does one that answers 5xx, 408, 425 or 429, after the time in
    ``Retry-After``. Any other status 4xx is final, and so is a redirect, which is not followed: it may lead to a server
    that nobody has named. No message, no file and no journal shows an address, because whoever knows it can post.

    Args:
        url: the address.

    Attributes:
        address: the masked address.
    """

    can_replay = False  # an alert of a past training would mislead

    def __init__(self, url: str) -> None:
        self._url = url
        self.address = action_name(url)
        self.name = NAME_START + self.address.partition(":")[2]  # type: ignore[misc]  # here, each object has its own name
        self._run = RunInfo()

    def open(self, run: RunInfo) -> None:
        self._run = run

    def write(self, snapshot: Snapshot) -> None:
        """Do nothing: a webhook gets alerts only."""

    def note(self, note: Note) -> None:
        if takes(self.name, note):
            self._post(self._body(note))

    def _body(self, note: Note) -> bytes:
        details = {name: value for name, value in note.data.items() if name not in ("actions", "is_over", "message")}
        name = self._run.name or Path(self._run.output_dir or "").name or None
        body: dict[str, Any] = {
            "text": f"{name or 'training'}: alert at step {note.step:,}: {note.message}",
            "training": name,
            "step": note.step,
            "time": note.time,
            **details,
        }
        value = body.get("value")
        if isinstance(value, float) and not math.isfinite(value):  # NaN and infinity are no JSON
            body["value"] = str(value)
        return json.dumps(body, allow_nan=False).encode()

    def _post(self, body: bytes) -> None:
        try:
            opener = urllib.request.build_opener(_NoRedirects)  # it uses the proxies that the environment names now
            with opener.open(_request(self._url, body), timeout=_TIMEOUT):
                return
        except urllib.error.HTTPError as error:  # the delivery reads the status, and when to try again
            error.close()
            answer = f"{self.address} answers {error.code}"
            if 300 <= error.code < 400:
                raise Rejected(f"{answer}: it redirects to another address. Use that address") from None
            raise urllib.error.HTTPError("", error.code, answer, error.headers, None) from None
        except (ValueError, http.client.InvalidURL):  # their messages show the address
            raise Rejected(f"the address of {self.address} cannot be used") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ConnectionError(f"{self.address} does not answer ({type(reason).__name__})") from None


def takes(name: str, note: Note) -> bool:
    """Return whether the webhook of a name sends a note."""
    actions = note.data.get("actions")  # anything may have written the journal
    address = f"webhook:{name.removeprefix(NAME_START)}"
    return note.kind == "alert" and isinstance(actions, list | tuple) and address in actions


def _request(url: str, body: bytes) -> urllib.request.Request:
    """Return the request for an address. Its user and password go into a header, because urllib does not read them.

    Raises:
        ValueError: the address has a wrong form.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "mtask-sinks"}
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        raise ValueError("the address names no host")
    if at:
        login = unquote_to_bytes(user if ":" in user else f"{user}:")
        headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        url = parts._replace(netloc=host).geturl()
    return urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  # the address begins with http
