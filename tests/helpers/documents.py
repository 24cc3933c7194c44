"""Reads the code blocks of the documentation, and tells whether a command prints what a page shows below it.

A page says three things in HTML comments, on the line above a block:

* ``<!-- file: two.py -->``: the commands of the page find the block in this file;
* ``<!-- not compared: why -->``: no test compares the block, for this reason;
* ``<!-- continues index.md -->``, anywhere: the Python of the page uses the names of the first page.

In a ``console`` block, lines that begin with ``$ `` are commands and the others are what they print. ``…`` means
text that the page leaves out: on its own line any lines, inside a line the rest of a word or of the line.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}

#: Machines round differently: numbers with decimals may differ by this share.
TOLERANCE = 0.01

_BLOCK = re.compile(r"^(?:<!-- (file|not compared): ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: line of the page on which the block begins.
        language: what follows the fence.
        code: its lines.
        file: the file that holds it for the commands of the page, if the page names one.
        not_compared: why no test compares it, if the page gives a reason.
    """

    line: int
    language: str
    code: str
    file: str | None = None
    not_compared: str | None = None


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block, and the output that the page shows below it, which may be empty."""

    line: int
    text: str
    output: str


def read_blocks(page: str) -> list[Block]:
    """Return all blocks of a page, in order."""
    text = DOCUMENTS[page].read_text()
    found = []
    for match in _BLOCK.finditer(text):
        note, value, language, code = match.groups()
        notes = {"file": value if note == "file" else None, "not_compared": value if note == "not compared" else None}
        found.append(Block(text[: match.start(3)].count("\n") + 1, language, code, **notes))
    return found


def code_of(page: str, language: str) -> list[str]:
    """Return the code of all blocks of a page in one language."""
    return [block.code for block in read_blocks(page) if block.language == language]


def python_of(page: str) -> list[str]:
    """Return the Python of a page: its blocks, and the new side of each diff that shows a whole file."""
    blocks = read_blocks(page)
    changes = [sides(block.code)[1] for block in blocks if block.language == "diff" and block.file]
    return [block.code for block in blocks if block.language == "python"] + changes


def sides(diff: str) -> tuple[str, str]:
    """Return the code before and after a diff that shows all of the code.

    >>> sides("-a = 1\\n+a = 2\\n \\n b = 3\\n")
    ('a = 1\\n\\nb = 3\\n', 'a = 2\\n\\nb = 3\\n')
    """
    lines = diff.splitlines()
    before, after = ("".join(f"{line[1:]}\n" for line in lines if line[:1] != other) for other in "+-")
    return before, after


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a ``console`` block. Text after two blanks and a ``#`` is a comment."""
    found: list[Command] = []
    for number, line in enumerate(block.code.splitlines(), block.line + 1):
        if line.startswith("$ "):
            found.append(Command(number, re.sub(r"  +#.*", "", line[2:]), ""))
        elif found:
            last = found.pop()
            found.append(Command(last.line, last.text, f"{last.output}{line}\n"))
    return found


# Name → pattern of the texts that may differ between runs and between machines.
_VARYING = {
    "moment": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "time span": r"\d+ d \d+ h|\d+(?::\d\d)+|\d+ s\b",
    "speed": r"[\d.e+]+ ?(?:it/s|s/it|steps/s)",
    "measured": r"(?<=runtime': ')[\d.e+-]+|(?<=per_second': ')[\d.e+-]+",
    "version": r"\d+\.\d+\.\d+[\w.+-]*",
    "bar": r"\|[█▏▎▍▌▋▊▉ ]+\|",
    "curve": r"[▁▂▃▄▅▆▇█]+",
    "rule": r"[━─]{2,}",
    "blanks": r" +",
}
_NUMBER = r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"
_TOKEN = re.compile("|".join([*(f"({way})" for way in _VARYING.values()), f"({_NUMBER})", "(…)", ".[^\\W\\d]*"]))
_NUMBER_GROUP, _LEFT_OUT_GROUP = len(_VARYING) + 1, len(_VARYING) + 2


def difference(shown: str, printed: str, any_number: bool = False) -> str:
    """Return how a printed text differs from what a page shows of it; empty if it does not.

    Everything is compared literally, except what varies by nature: times, speeds, versions, the width of columns, and
    curves drawn in text. Numbers with decimals may differ by one percent.

    >>> shown = "{'loss': '1.93', 'eval_runtime': '0.2'}\\n…\\ndone\\n"
    >>> difference(shown, "{'loss': '1.931', 'eval_runtime': '7.4'}\\nand more\\ndone\\n")
    ''
    >>> print(difference(shown, "{'loss': '2.93', 'eval_runtime': '7.4'}\\nand more\\ndone\\n"))
    shown 1.93, printed 2.93:
    --- shown
    +++ printed
    @@ -1,3 +1,3 @@
    -{'loss': '1.93', 'eval_runtime': '0.2'}
    -…
    +{'loss': '2.93', 'eval_runtime': '7.4'}
    +and more
     done

    Args:
        shown: what the page shows.
        printed: what the command printed.
        any_number: accept any number for a number, because the test runs fewer steps than the page.
    """
    lines, printed_lines = (text.rstrip().splitlines() for text in (shown, printed))
    tokens = [[*_TOKEN.finditer(line.rstrip())] for line in lines]
    pattern = "".join(_pattern(line) for line in tokens)
    match = re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed_lines))
    why = "the text differs" if match is None else ""
    if match is not None and not any_number:
        numbers = [token[0] for line in tokens for token in line if token.lastindex == _NUMBER_GROUP]
        apart = [pair for pair in zip(numbers, match.groups(), strict=True) if not _is_close(*pair)]
        why = ", ".join(f"shown {one}, printed {other}" for one, other in apart)
    if not why:
        return ""
    diff = difflib.unified_diff(lines, printed_lines, "shown", "printed", lineterm="")
    return "\n".join([f"{why}:", *diff])


def _pattern(line: list[re.Match[str]]) -> str:
    """Return a regular expression that matches a line of a page, with a group for each number."""
    if "".join(token[0] for token in line).strip() == "…":
        return r"(?:.*\n)*?"
    return "".join(map(_part, line)) + r"\n"


def _part(token: re.Match[str]) -> str:
    if token.lastindex is None:
        return re.escape(token[0])
    if token.lastindex == _LEFT_OUT_GROUP:
        return ".*?"
    if token.lastindex == _NUMBER_GROUP:
        return f"({_NUMBER})"
    return f"(?:{[*_VARYING.values()][token.lastindex - 1]})"


def _is_close(one: str, other: str) -> bool:
    if one.isdigit():
        return one == other
    first, second = (float(text.replace(",", "")) for text in (one, other))
    return math.isclose(first, second, rel_tol=TOLERANCE)
