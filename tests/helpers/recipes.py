"""Loads recipes of the documentation, so that tests can run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_DOCS = Path(__file__).parents[2] / "docs"


def recipe(page: str, name: str) -> Any:
    """Return the function of this name from the block of a page that defines it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (_DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if f"def {name}(" in block)
    namespace: dict[str, Any] = {"__name__": page}
    exec(compile(block, page, "exec"), namespace)
    return namespace[name]
