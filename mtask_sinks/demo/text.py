"""Reads English text without a network: the documentation that ships with Python."""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED = {"site-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z\"'`(*])|\n\s*\n")
_WORD = re.compile(r"[A-Za-z]{2,}")


def read_documents() -> list[list[str]]:
    """Return documents, each a list of sentences: topics of the language reference, and docstrings of library modules.

    They are about 2 MB of text, always in the same order.
    """
    texts = [topics[name] for name in sorted(topics)]
    texts += ["\n\n".join(_docstrings(path)) for path in _library_modules()]
    documents = [list(_sentences(text)) for text in texts]
    return [document for document in documents if len(document) >= 4]


def _library_modules() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(path for path in root.rglob("*.py") if not _SKIPPED.intersection(path.relative_to(root).parts))


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # some library files are broken on purpose
        return
    for node in _statements(tree):
        if isinstance(node, _DEFINITIONS) and (text := ast.get_docstring(node)):
            yield text


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield statements in the order of `ast.walk`; expressions are skipped to save a third of the reading time."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            waiting.extend(getattr(node, part, ()))


def _sentences(text: str) -> Iterator[str]:
    for part in _SENTENCE_END.split(text):
        sentence = " ".join(part.split())
        if len(_WORD.findall(sentence)) >= 4:
            yield sentence
