"""Makes the Content-Security-Policy of a page: a browser runs only the scripts that the page was made with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable


def content_policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the policy of a page whose scripts and style sheets are all in the page.

    >>> content_policy([], []).split("; ")[:4]
    ["default-src 'none'", "script-src 'none'", "style-src-elem 'none'", "style-src-attr 'unsafe-inline'"]

    Even if a name from a journal got into the page as a tag, the browser would not run it: each script and style sheet
    needs its hash in the policy. ``style`` attributes need no hash: Plotly and the tables set them, and they run no
    code. The page loads nothing from elsewhere: pictures, such as the chart that a button saves, are part of it.
    Source: W3C, Content Security Policy Level 3.

    Args:
        scripts, styles: the texts of the elements.
    """
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src-elem {_hashes(styles)}; "
        "style-src-attr 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
