"""Reads a training script and the modules beside it: classes, names, calls of ``report_metrics``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mtask_sinks import __all__ as public_names
from mtask_sinks.doctor.source import IN_FILE, Source, read_source

# Read at most this many files for one script.
_MAX_FILES = 50
_NAMES = (ast.Name, ast.Attribute)


@dataclass(frozen=True)
class Class:
    """A class of the script."""

    source: Source
    node: ast.ClassDef


@dataclass(frozen=True)
class ReportCall:
    """A call of ``report_metrics``.

    Attributes:
        source, node: where it is.
        kind: ``self``: the method of a module; ``function``: the function of this library; ``object``: a method of
            anything else, such as a registry.
        cls: the class around the call; ``None`` if there is none.
    """

    source: Source
    node: ast.Call
    kind: str
    cls: Class | None

    @property
    def is_grouped(self) -> bool:
        """Whether the call names a task, or may name one."""
        return bool(self.node.args)


class Script:
    """A script, and the modules that it imports from its own directory, directly or indirectly.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "train.py")
    >>> _ = path.write_text("import mtask_sinks as ms\\nms.report_metrics('mlm', loss=loss)")
    >>> [(report.kind, report.node.lineno) for report in Script(path).report_calls]
    [('function', 2)]

    Args:
        path: path of the script.

    Raises:
        OSError: the script cannot be read.
        SyntaxError, ValueError: the script is not valid Python. Modules beside it may be invalid: they are skipped.
    """

    def __init__(self, path: Path) -> None:
        path = path.absolute()
        self._dir = path.parent
        self._dirs = [self._dir]
        while (self._dirs[-1] / "__init__.py").is_file():  # imports in a package start at the directory above it
            self._dirs.append(self._dirs[-1].parent)
        self.main = read_source(path, self._find)
        self.sources = [self.main]
        # Modules beside the script that cannot be read.
        self.unread: list[Path] = []
        for source in self.sources:  # the list grows in the loop
            for imported in source.imported:
                self._add(imported)

    def _add(self, path: Path) -> None:
        known = [source.path for source in self.sources]
        if path in known or path in self.unread or len(known) >= _MAX_FILES:
            return
        try:
            self.sources.append(read_source(path, self._find))
        except (OSError, SyntaxError, ValueError):
            self.unread.append(path)

    def _find(self, importer: Path, module: str, level: int) -> Path | None:
        if level > len(importer.parents):
            return None
        if f"{module}.".startswith("mtask_sinks.") and not f"{module}.".startswith("mtask_sinks.demo."):
            return None  # the names of this library are known; of its files, only the demo is read
        starts = [importer.parents[level - 1]] if level else self._dirs
        for start in starts:
            file = start.joinpath(*module.split(".")) if module else start
            for candidate in (file.with_name(f"{file.name}.py"), file / "__init__.py"):
                if candidate.is_file() and candidate.is_relative_to(self._dir):
                    return candidate
        return None

    @property
    def foreign(self) -> frozenset[str]:
        """Imported packages that the doctor does not read."""
        return frozenset().union(*(source.foreign for source in self.sources))

    @cached_property
    def _by_path(self) -> dict[str, Source]:
        return {str(source.path): source for source in self.sources}

    @cached_property
    def classes(self) -> dict[str, Class]:
        """``file::name`` → class."""
        return {
            f"{source.path}{IN_FILE}{node.name}": Class(source, node)
            for source in self.sources
            for node in ast.walk(source.tree)
            if isinstance(node, ast.ClassDef)
        }

    @cached_property
    def report_calls(self) -> list[ReportCall]:
        """Every call of ``report_metrics``."""
        return [report for source in self.sources for report in self._calls_in(source, source.tree, None)]

    def resolve(self, source: Source, node: ast.expr) -> str | None:
        """Return what an expression refers to: ``package.name``, or ``file::name``; ``None`` if unknown.

        A public name of this library is ``mtask_sinks.name``, whichever module the script imports it from.
        """
        name = source.dotted(node)
        for _ in range(10):  # from file to file: each may re-export what it imports
            if name is None or IN_FILE not in name or name in self.classes:
                break
            path, _, inner = name.partition(IN_FILE)
            holder = self._by_path.get(path)
            if holder is None or inner not in holder.names:
                break
            name = holder.names[inner]
        return _public(name)

    def uses(self, *names: str) -> bool:
        """Whether the script uses one of these dotted names. An import alone does not count."""
        return not self.used.isdisjoint(names)

    @cached_property
    def expressions(self) -> list[tuple[Source, ast.expr]]:
        """Every expression."""
        return [
            (source, node) for source in self.sources for node in ast.walk(source.tree) if isinstance(node, ast.expr)
        ]

    @cached_property
    def calls(self) -> list[tuple[Source, ast.Call]]:
        """Every call."""
        return [(source, node) for source, node in self.expressions if isinstance(node, ast.Call)]

    @cached_property
    def used(self) -> frozenset[str]:
        """What the names that the script uses refer to."""
        named = (self.resolve(source, node) for source, node in self.expressions if isinstance(node, _NAMES))
        return frozenset(name for name in named if name is not None)

    def bases(self, cls: Class) -> list[str | None]:
        """Return the base classes of a class, in order."""
        return [self.resolve(cls.source, base) for base in cls.node.bases]

    def ancestors(self, cls: Class) -> tuple[list[Class], list[str | None]]:
        """Return a class with its bases in the script, and the names of bases that are defined elsewhere."""
        own, elsewhere = [cls], []
        for each in own:  # the list grows in the loop
            for base in self.bases(each):
                if base not in self.classes:
                    elsewhere.append(base)
                elif self.classes[base] not in own:
                    own.append(self.classes[base])
        return own, elsewhere

    def relatives(self, cls: Class) -> list[Class]:
        """Return a class, its bases in the script, and the classes that derive from it."""
        return [
            *self.ancestors(cls)[0],
            *(other for other in self.classes.values() if other is not cls and cls in self.ancestors(other)[0]),
        ]

    def _calls_in(self, source: Source, node: ast.AST, cls: Class | None) -> Iterator[ReportCall]:
        waiting = [(node, cls)]  # a loop: nested expressions may exceed Python's recursion limit
        while waiting:
            node, cls = waiting.pop()
            if isinstance(node, ast.Call) and (kind := self._kind(source, node.func)) is not None:
                yield ReportCall(source, node, kind, cls)
            inside = Class(source, node) if isinstance(node, ast.ClassDef) else cls
            waiting += [(child, inside) for child in reversed([*ast.iter_child_nodes(node)])]

    def _kind(self, source: Source, called: ast.expr) -> str | None:
        if self.resolve(source, called) == "mtask_sinks.report_metrics":
            return "function"
        if isinstance(called, ast.Attribute) and called.attr == "report_metrics":
            return "self" if isinstance(called.value, ast.Name) and called.value.id == "self" else "object"
        return None


def _public(name: str | None) -> str | None:
    """Shorten a public name of this library: `mtask_sinks.trainer.mixin.X` becomes `mtask_sinks.X`."""
    module, _, last = (name or "").rpartition(".")
    is_of_module = f"{module}.".startswith("mtask_sinks.") and module.islower()  # not a method of a class
    return f"mtask_sinks.{last}" if is_of_module and last in public_names else name
