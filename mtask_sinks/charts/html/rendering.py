"""Renders a template to a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.formatting import duration, moment, number
from mtask_sinks.charts.curves import Chart
from mtask_sinks.charts.html.payload import payload

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"

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
        raise ImportError(f"a page needs {package}, which is not installed: pip install 'mtask-sinks[plot]'.") from None
    return environment.get_template(template).render(
        generator=GENERATOR,
        style=_read("page.css"),
        chart=chart,
        payload=None if chart is None else _script_json(payload(chart)),
        plotly=plotly,
        script=_read("charts.js"),
        **values,
    )


def is_page(path: Path) -> bool:
    """Whether a file is a page that this module made."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return GENERATOR in file.read(1000)


def _script_json(value: Any) -> str:
    """Return JSON that cannot end its script element, whatever the runs are called."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, duration=duration, moment=moment)
    return environment


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
