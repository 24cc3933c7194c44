"""Finds out what the names in a script refer to, and collects its classes, functions and calls."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mtask_sinks import __all__ as public_names
from mtask_sinks.doctor.files import ScriptFiles
from mtask_sinks.doctor.source import IN_FILE, Source

_NAMES = (ast.Name, ast.Attribute)


@dataclass(frozen=True)
class Class:
    """A class of the script."""

    source: Source
    node: ast.ClassDef


@dataclass(frozen=True)
class Function:
    """A function, method or lambda of the script, with the class around it."""

    source: Source
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    cls: Class | None


@dataclass(frozen=True)
class Call:
    """A call in the script, with the class around it."""

    source: Source
    node: ast.Call
    cls: Class | None

    @property
    def keywords(self) -> dict[str | None, ast.expr]:
        """Name → value of each argument that is passed by keyword; ``None`` → what is passed as ``**more``."""
        return {keyword.arg: keyword.value for keyword in self.node.keywords}


class Script:
    """A script, and the modules that it imports from its own directory.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "train.py")
    >>> _ = path.write_text("import mtask_sinks as ms\\nms.report_metrics('mlm', loss=loss)")
    >>> script = Script(path)
    >>> [script.resolve(call.source, call.node.func) for call in script.calls]
    ['mtask_sinks.report_metrics']

    Args:
        path: path of the script.

    Raises:
        OSError: the script cannot be read.
        SyntaxError, ValueError: the script is not valid Python. Modules beside it may be invalid: they are skipped.
    """

    def __init__(self, path: Path) -> None:
        files = ScriptFiles(path)
        self.sources = files.sources
        #: Modules beside the script that cannot be read.
        self.unread = files.unread
        self.main = self.sources[0]
        self._by_path = {str(source.path): source for source in self.sources}

    @property
    def foreign(self) -> frozenset[str]:
        """Imported packages that the doctor does not read."""
        return frozenset().union(*(source.foreign for source in self.sources))

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
    def functions(self) -> dict[str, Function]:
        """``file::name`` → function. Methods are not among them."""
        methods = {part for cls in self.classes.values() for part in cls.node.body}
        return {
            f"{source.path}{IN_FILE}{node.name}": Function(source, node, None)
            for source in self.sources
            for node in ast.walk(source.tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node not in methods
        }

    @cached_property
    def calls(self) -> list[Call]:
        """Every call."""
        return [call for source in self.sources for call in _calls_in(source)]

    @cached_property
    def expressions(self) -> list[tuple[Source, ast.expr]]:
        """Every expression."""
        return [
            (source, node) for source in self.sources for node in ast.walk(source.tree) if isinstance(node, ast.expr)
        ]

    @cached_property
    def used(self) -> frozenset[str]:
        """The dotted names to which the names in the script refer."""
        named = (self.resolve(source, node) for source, node in self.expressions if isinstance(node, _NAMES))
        return frozenset(name for name in named if name is not None)

    @cached_property
    def words(self) -> Counter[str]:
        """How often each name, attribute, keyword and text is in the script."""
        found: Counter[str] = Counter()
        for _, node in self.expressions:
            if isinstance(node, ast.Name):
                found[node.id] += 1
            elif isinstance(node, ast.Attribute):
                found[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[node.value] += 1
            elif isinstance(node, ast.Call):
                found.update(keyword.arg for keyword in node.keywords if keyword.arg is not None)
        return found

    def uses(self, *names: str) -> bool:
        """Return whether the script uses one of these dotted names. An import alone does not count."""
        return not self.used.isdisjoint(names)

    def resolve(self, source: Source, node: ast.expr) -> str | None:
        """Return what an expression refers to: ``package.name``, or ``file::name``; ``None`` if unknown.

        A public name of this library is ``mtask_sinks.name``, whichever module the script imports it from.
        """
        name = source.dotted(node)
        for _ in range(10):  # follow the name from file to file: each file may re-export what it imports
            if name is None or name in self.classes:
                break
            path, _, inner = name.partition(IN_FILE)
            holder = self._by_path.get(path)
            if holder is None or inner not in holder.names:
                break
            name = holder.names[inner]
        return _public(name)

    def class_of(self, source: Source, node: ast.expr) -> Class | None:
        """Return the class of ``Model()``, or of ``model`` after ``model = Model()``; ``None`` if unknown."""
        if isinstance(node, ast.Name):
            values = _values_of(source, node.id)
            node = values[0] if len(values) == 1 else node
        return self.classes.get(self.resolve(source, node.func) or "") if isinstance(node, ast.Call) else None


def _calls_in(source: Source) -> Iterator[Call]:
    waiting: list[tuple[ast.AST, Class | None]] = [(source.tree, None)]
    while waiting:  # a loop: nested expressions may exceed Python's recursion limit
        node, cls = waiting.pop()
        if isinstance(node, ast.Call):
            yield Call(source, node, cls)
        inside = Class(source, node) if isinstance(node, ast.ClassDef) else cls
        waiting += [(child, inside) for child in reversed([*ast.iter_child_nodes(node)])]


def _values_of(source: Source, name: str) -> list[ast.expr]:
    """Return the values that a file assigns to a name."""
    return [
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == name
    ]


def _public(name: str | None) -> str | None:
    """Shorten a public name of this library: `mtask_sinks.trainer.mixin.X` becomes `mtask_sinks.X`."""
    module, _, last = (name or "").rpartition(".")
    is_of_module = f"{module}.".startswith("mtask_sinks.") and module.islower()  # not a method of a class
    return f"mtask_sinks.{last}" if is_of_module and last in public_names else name
