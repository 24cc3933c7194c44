"""Renders a template to a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.formatting import counted, duration, moment, number
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.compare import more_digits_of
from mtask_sinks.analysis.task_health import cosine_text
from mtask_sinks.charts import words
from mtask_sinks.charts.curves import Chart, Panel
from mtask_sinks.charts.html.content_policy import content_policy
from mtask_sinks.charts.html.payload import payload
from mtask_sinks.charts.html.sparkline import sparkline

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# Read as a resource, because the package may be in a zip file.
_TEMPLATES = files(__package__) / "templates"

# How Plotly adds a style sheet: createElement("style"), and then its text.
_SHEET_OF_PLOTLY = re.compile(r"createElement\(\"style\"\);.{0,200}?\.textContent='((?:[^'\\]|\\\\)*)'")

# The words in a sentence of a report that say that a task or a run needs attention.
_ALARMS = re.compile(r"(?<=[:,] )(worse|silent|not finite)(?= in )|(?<= )(failed|was killed)(?= at step )")

#: Each page contains this line, so that a command knows which files it may overwrite.
GENERATOR = '<meta name="generator" content="mtask-sinks">'


def render(template: str, chart: Chart | None, **values: Any) -> str:
    """Render a page.

    Args:
        template: file name of the template.
        chart: the curves that the page shows; ``None`` if it shows none.
        values: further values for the template, which escapes all of them.

    Raises:
        ImportError: jinja2 or plotly is not installed.
    """
    try:
        environment = _environment()
        plotly = None if chart is None else _plotly()
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        raise ImportError(
            f"a page needs the package {package}, which is not installed. Run: pip install 'mtask-sinks[plot]'"
        ) from None
    chart, values = shown(chart), shown(values)
    style, scripts = _read("page.css"), [] if plotly is None else [plotly, _read("charts.js")]
    return environment.get_template(template).render(
        generator=GENERATOR,
        policy=content_policy(scripts, [style, *(_sheets_of_plotly(plotly) if plotly else ())]),
        style=style,
        chart=chart,
        payload=None if chart is None else _script_json(payload(chart)),
        scripts=scripts,
        **values,
    )


def is_page(path: Path) -> bool:
    """Return whether a file is a page that this module made."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return GENERATOR in file.read(1000)


def marked(sentence: str) -> Markup:
    """Return a sentence of a report with its alarming words in colour.

    >>> marked("a<b/loss: worse in eval since step 20.")
    Markup('a&lt;b/loss: <span class="alarm">worse</span> in eval since step 20.')
    """
    from markupsafe import Markup, escape

    return Markup(_ALARMS.sub(r'<span class="alarm">\1\2</span>', str(escape(sentence))))  # noqa: S704 (it is escaped)


def groups(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Return the panels of each section of the page."""
    return [list(found) for _, found in groupby(panels, key=lambda panel: panel.group)]


def _script_json(value: Any) -> str:
    """Return JSON that cannot end its script element, whatever names the runs have."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=duration, moment=moment, cosine=cosine_text)
    environment.filters.update(
        counted=counted,
        more_digits_of=more_digits_of,
        sparkline=sparkline,
        marked=marked,
        notes=words.notes,
        spoken=words.spoken,
        constant=words.constant,
        groups=groups,
    )
    return environment


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _with_plain_newlines(str(get_plotlyjs()))


def _sheets_of_plotly(plotly: str) -> list[str]:
    """Return the style sheets that Plotly adds to a page: an empty one, to which it adds rules, and one for maps."""
    return ["", *(text.replace("\\\\", "\\") for text in _SHEET_OF_PLOTLY.findall(plotly))]


def _read(name: str) -> str:
    return _with_plain_newlines((_TEMPLATES / name).read_text(encoding="utf-8"))


def _with_plain_newlines(text: str) -> str:
    """Return a text as a browser reads it, so that this library and the browser compute the same hash."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
