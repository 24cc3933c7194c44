"""Converts this project's docstrings to Markdown: examples become code blocks, and public names become links."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

PUBLIC = {
    name: f"mtask_sinks.{name}"
    for name in (
        *("HfMultiTaskTrainer", "MultiTaskTrainerMixin", "MetricRegistry", "report_metrics", "weighted"),
        *("Reducer", "register_reducer", "Sink", "Snapshot", "RunInfo", "SinkArguments", "read_journal"),
    )
}

_EXAMPLE = re.compile(r"^( *)>>> .*\n(?:\1.*\S.*\n?)*", re.MULTILINE)
_FLAG = re.compile(r" *# doctest: .*$", re.MULTILINE)
_NAME = re.compile(r"(?<!`)`(\w+)(?:\.\w+)?`(?!`)")


class Docstrings(Extension):
    """Converts the docstring of every object that mkdocstrings loads."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with its examples in fences and its public names as links.

    >>> as_markdown("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nSee `weighted`.")
    'Adds.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nSee [`weighted`][mtask_sinks.weighted].'
    """
    text = _EXAMPLE.sub(_fenced, text)
    return _NAME.sub(_linked, text)


def _fenced(example: re.Match[str]) -> str:
    indent = example[1]
    code = _FLAG.sub("", example[0].rstrip("\n"))
    return f"{indent}```pycon\n{code}\n{indent}```\n"


def _linked(code: re.Match[str]) -> str:
    return f"[{code[0]}][{PUBLIC[code[1]]}]" if code[1] in PUBLIC else code[0]
