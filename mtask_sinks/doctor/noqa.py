"""Finds the comments that tell the doctor to leave out a finding: ``# noqa: reserved-key``."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    found: dict[int, frozenset[str]] = {}
    try:
        with tokenize.open(path) as file:
            for lines, names in _statements(tokenize.generate_tokens(file.readline)):
                found |= dict.fromkeys(lines, names)
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        return {}
    return found


def _statements(tokens: Iterable[tokenize.TokenInfo]) -> Iterator[tuple[range, frozenset[str]]]:
    """Yield the lines of each statement, with the names in its comments."""
    names: set[str] = set()
    first: int | None = None
    for token in tokens:
        if token.type == tokenize.COMMENT:
            if (match := _COMMENT.search(token.string)) is not None:
                names.update(re.split(r"[\s,]+", match[1]))
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and first is None:
            first = token.start[0]
        if token.type in (tokenize.NEWLINE, tokenize.ENDMARKER) and first is not None:
            yield range(first, token.start[0] + 1), frozenset(names)
        if token.type == tokenize.NEWLINE or (token.type == tokenize.NL and first is None):
            names, first = set(), None
