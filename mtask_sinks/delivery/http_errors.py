"""Reads the HTTP errors of urllib, requests and httpx: whether another try may help, and when the server wants it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.error import HTTPError

# Answers with these codes ask for another try: request time-out, too early, too many requests.
_NOT_REFUSED = frozenset({408, 425, 429})

#: The longest time in seconds that a server can delay the next try by.
LONGEST_DELAY = 600.0


def http_status(error: BaseException) -> int | None:
    """Return the status code of the answer that an exception is about; ``None`` for any other exception.

    >>> http_status(HTTPError("http://host", 400, "Bad Request", {}, None)), http_status(OSError("no route"))
    (400, None)

    The exceptions of requests and httpx have the answer in ``response``, that of urllib is the answer.
    """
    status = error.code if isinstance(error, HTTPError) else getattr(_response(error), "status_code", None)
    return status if isinstance(status, int) else None


def is_refusal(status: int) -> bool:
    """Return whether a server with this answer will never accept the request: 4xx, except 408, 425 and 429.

    >>> [status for status in (400, 404, 408, 422, 425, 429, 500, 503) if is_refusal(status)]
    [400, 404, 422]
    """
    return 400 <= status < 500 and status not in _NOT_REFUSED


def is_unsendable(error: BaseException) -> bool:
    """Return whether requests could not write the data as JSON, because they hold NaN or infinity: nothing was sent.

    The class derives from `OSError`. Its subclass is no such case: the server's answer is no JSON.
    """
    kind = type(error)
    return kind.__name__ == "InvalidJSONError" and kind.__module__.partition(".")[0] == "requests"


def retry_after(error: BaseException | None) -> float:
    """Return for how many seconds the server of a failed request wants no other one, at most 600; else 0.

    >>> retry_after(HTTPError("http://host", 429, "Too Many Requests", {"Retry-After": "30"}, None))
    30.0

    A date in ``Retry-After`` counts from the ``Date`` of the answer, because the clock of the server may differ.

    Source: RFC 9110, section 10.2.3.
    """
    headers: Any = error.headers if isinstance(error, HTTPError) else getattr(_response(error), "headers", None)
    try:
        text = str(headers["Retry-After"])
        seconds = float(text) if text.strip().isdigit() else _seconds_until(text, headers)
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_DELAY)


def _seconds_until(date: str, headers: Mapping[str, str]) -> float:
    until = parsedate_to_datetime(date)
    answered = headers.get("Date")
    now = datetime.now(until.tzinfo) if answered is None else parsedate_to_datetime(answered)
    return (until - now).total_seconds()


def _response(error: BaseException | None) -> Any:
    return getattr(error, "response", None)
