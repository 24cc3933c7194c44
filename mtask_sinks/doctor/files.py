"""Reads a script and the modules beside it that it imports."""

from __future__ import annotations

from pathlib import Path

from mtask_sinks.doctor.source import Source, read_source

# Read at most this many files for one script.
_MAX_FILES = 50


class ScriptFiles:
    """A script, and the modules that it imports from its own directory, directly or indirectly.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "train.py")
    >>> _ = path.write_text("import torch\\nfrom model import Bert")
    >>> _ = path.with_name("model.py").write_text("class Bert: pass")
    >>> [source.path.name for source in ScriptFiles(path).sources]
    ['train.py', 'model.py']

    Attributes:
        sources: the files; the script is the first.
        unread: modules beside the script that cannot be read, are not valid Python, or are beyond the limit of 50.

    Args:
        path: path of the script.

    Raises:
        OSError: the script cannot be read.
        SyntaxError, ValueError: the script is not valid Python.
    """

    def __init__(self, path: Path) -> None:
        path = path.absolute()
        self._dir = path.parent
        self._dirs = [self._dir]
        while (self._dirs[-1] / "__init__.py").is_file():  # imports in a package start at the directory above it
            self._dirs.append(self._dirs[-1].parent)
        self.sources: list[Source] = [read_source(path, self._find)]
        self.unread: list[Path] = []
        for source in self.sources:  # the list grows in the loop
            for imported in source.imported:
                self._add(imported)

    def _add(self, path: Path) -> None:
        known = [source.path for source in self.sources]
        if path in known or path in self.unread:
            return
        if len(known) >= _MAX_FILES:
            self.unread.append(path)
            return
        try:
            self.sources.append(read_source(path, self._find))
        except (OSError, SyntaxError, ValueError):
            self.unread.append(path)

    def _find(self, importer: Path, module: str, level: int) -> Path | None:
        """Return the file of an imported module, if the doctor reads it."""
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
