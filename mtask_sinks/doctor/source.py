"""Reads a Python file without running it, and finds what its names refer to."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Separates the path of a file from a name in it: ``/dir/model.py::Model``.
IN_FILE = "::"


@dataclass(frozen=True, eq=False)
class Source:
    """One file.

    Attributes:
        path: absolute path of the file.
        tree: syntax tree of the file.
        names: imported name → what it refers to: ``mtask_sinks.report_metrics``, or ``/dir/model.py::Model``.
        bound: names that the file binds in other ways, at any level.
        imported: files of the script's directory that it imports.
        foreign: packages that it imports from elsewhere.
        has_star: whether it has an ``import *``, so that any name may be bound.
    """

    path: Path
    tree: ast.Module
    names: dict[str, str]
    bound: frozenset[str]
    imported: tuple[Path, ...]
    foreign: frozenset[str]
    has_star: bool

    def where(self, node: ast.expr | ast.stmt) -> str:
        """Return ``file:line:column`` of a node; both begin with 1."""
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        return f"{path}:{node.lineno}:{node.col_offset + 1}"

    def dotted(self, node: ast.expr) -> str | None:
        """Return what a name, or an attribute of a name, refers to; ``None`` for any other expression."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, f"{self.path}{IN_FILE}{node.id}")
        if isinstance(node, ast.Attribute) and (before := self.dotted(node.value)) is not None:
            return f"{before}{node.attr}" if before.endswith(IN_FILE) else f"{before}.{node.attr}"
        return None


def read_source(path: Path, find: Callable[[Path, str, int], Path | None]) -> Source:
    """Read a file.

    Args:
        path: path of the file.
        find: (importing file, module, level of a relative import) → the imported file, or ``None`` to not read it.

    Raises:
        OSError: the file cannot be read.
        SyntaxError, ValueError: the file is not valid Python.
    """
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (RecursionError, MemoryError) as error:  # the parser of Python raises either
        raise ValueError("its expressions are nested too deeply") from error
    names: dict[str, str] = {}
    imported: list[Path] = []
    foreign: set[str] = set()
    has_star = False
    for module, level, name, bound in _imports(tree):
        file = find(path, module, level)
        inner = None if name is None else find(path, f"{module}.{name}".lstrip("."), level)
        imported += [each for each in (file, inner) if each is not None]
        if file is None and inner is None:
            foreign.add("." * level + module)
        has_star = has_star or name == "*"
        if inner is not None:
            names[bound] = f"{inner}{IN_FILE}"
        elif file is not None:
            names[bound] = f"{file}{IN_FILE}{name or ''}"
        else:
            names[bound] = module if name is None else f"{module}.{name}"
    return Source(path, tree, names, frozenset(_bound(tree)), tuple(imported), frozenset(foreign), has_star)


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, str | None, str]]:
    """Yield every import: module, level, the imported name (``None`` for the module), and the name that it binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield whole, 0, None, alias.asname or whole
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", node.level, alias.name, alias.asname or alias.name


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
