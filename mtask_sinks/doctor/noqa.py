"""Finds the comments that tell the doctor to leave out a finding: ``# noqa: reserved-key``."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtask_sinks.doctor.finding import Finding

_COMMENT = re.compile(r"#\s*noqa\s*:\s*([\w-]+(?:[\s,]+[\w-]+)*)", re.IGNORECASE)


def without_noqa(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, except those that a comment in the same statement leaves out.

    ``# noqa`` without a name leaves out nothing: a comment for another tool must not hide that metrics are lost.
    """
    files = {finding.place.file for finding in findings if finding.place is not None}
    comments = {file: _comments(Path(file)) for file in files}
    kept = []
    for finding in findings:
        place = finding.place
        if place is None or finding.check not in comments[place.file].get(place.line, ()):
            kept.append(finding)
    return kept


def _comments(path: Path) -> Mapping[int, frozenset[str]]:
    """Return line → names in the comments of the statement to which the line belongs."""
    names: set[str] = set()
    found: dict[int, frozenset[str]] = {}
    first: int | None = None
    try:
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.COMMENT:
                    if (match := _COMMENT.search(token.string)) is not None:
                        names.update(re.split(r"[\s,]+", match[1]))
                elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and first is None:
                    first = token.start[0]
                if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) and first is not None:
                    found |= {line: frozenset(names) for line in range(first, token.start[0] + 1)}
                if token.type == tokenize.NEWLINE or (token.type == tokenize.NL and first is None):
                    names, first = set(), None
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        return {}
    return found
