"""Recognizes places that are no local paths."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def has_scheme(place: str | os.PathLike[str]) -> bool:
    """Return whether a place begins with a scheme, such as that of an object store.

    >>> has_scheme("s3://bucket/run-1"), has_scheme("gs:/bucket"), has_scheme("out/run-1"), has_scheme("C:/runs")
    (True, True, False, False)

    ``pathlib`` turns two slashes into one, so one slash is enough.
    """
    return _SCHEME.match(os.fspath(place)) is not None
