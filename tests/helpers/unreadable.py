"""Makes files and directories unreadable, even for root, who may read everything."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def forbid_reading(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Raise `PermissionError` from now on if a test opens one of these files or lists one of these directories."""

    def checked(function: Any) -> Any:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if Path(path) in paths:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *arguments, **options)

        return call

    for owner, name in ((Path, "open"), (os, "listdir"), (os, "scandir")):
        monkeypatch.setattr(owner, name, checked(getattr(owner, name)))
