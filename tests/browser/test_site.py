"""The documentation as a reader opens it: files in a directory, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Everything that a page has loaded or would load, except the links that a reader can click.
_LOADED = """
const parts = document.querySelectorAll("script[src], link[rel=stylesheet], link[rel=icon], img, iframe[src]")
return [...parts].map(part => part.src || part.href).concat(performance.getEntriesByType("resource").map(e => e.name))
"""

_TITLE = "return document.querySelector('h1').innerText"

# Tables that scroll, and names in the text that reach beyond it.
_TOO_WIDE = """
const article = document.querySelector("article"), edge = article.getBoundingClientRect().right + 1
const wide = [...article.querySelectorAll(".md-typeset__scrollwrap")].filter(box => box.scrollWidth > box.clientWidth)
const names = [...article.querySelectorAll(":is(p, li) code")]
return [...wide, ...names.filter(name => name.getBoundingClientRect().right > edge)].map(part => part.innerText)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return directory


def pages_of(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


@contextmanager
def emulated(browser, width: int, colours: str = "light") -> Iterator[None]:
    """Show pages as on a screen of this width, on a system with these colours."""
    command = browser.driver.execute_cdp_cmd
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
    command("Emulation.setDeviceMetricsOverride", screen)
    command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": colours}]})
    try:
        yield
    finally:
        command("Emulation.setEmulatedMedia", {"media": "", "features": []})
        command("Emulation.clearDeviceMetricsOverride", {})


@dataclass(frozen=True)
class Seen:
    """What the browser says of a page on a wide screen, and of its width on a phone."""

    title: str
    loaded: list[str]
    too_wide: list[str]
    phone_width: int
    errors: list[str]


@pytest.fixture(scope="module")
def seen(site: Path, browser) -> dict[str, Seen]:
    """Open each page once."""
    found = {}
    for page in pages_of(site):
        with emulated(browser, 1440):
            browser.open(page)
            wide = [browser.evaluate(each) for each in (_TITLE, _LOADED, _TOO_WIDE)]
        with emulated(browser, 390):
            width = browser.evaluate("return document.documentElement.scrollWidth")
        found[str(page.relative_to(site))] = Seen(*wide, width, browser.errors())
    return found


def test_every_page_loads_from_a_directory_and_asks_nobody(seen: dict[str, Seen]) -> None:
    assert len(seen) > 25
    for page, each in seen.items():
        assert each.title, page
        assert [address for address in each.loaded if not address.startswith("file:")] == [], page
        assert each.errors == [], page


def test_no_page_scrolls_sideways_on_a_phone(seen: dict[str, Seen]) -> None:
    assert {page: each.phone_width for page, each in seen.items() if each.phone_width != 390} == {}


def test_every_table_and_every_name_fits_a_wide_page(seen: dict[str, Seen]) -> None:
    assert {page: each.too_wide for page, each in seen.items() if each.too_wide} == {}


def test_the_colours_follow_the_system_also_on_a_later_visit(site: Path, browser) -> None:
    for colours, scheme in (("light", "default"), ("dark", "slate"), ("light", "default")):
        with emulated(browser, 1440, colours):
            browser.open(site / "index.html")
            assert browser.evaluate("return document.body.dataset.mdColorScheme") == scheme


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as ``rgb(0, 118, 106)``, by WCAG 2.2."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_links_are_readable(site: Path, browser, colours) -> None:
    script = (
        "const code = document.querySelector('article td a code'), colour = part => getComputedStyle(part);"
        "return [colour(code).color, colour(code).backgroundColor]"
    )
    with emulated(browser, 1440, colours):
        browser.open(site / "command-line.html")
        low, high = sorted(luminance(colour) for colour in browser.evaluate(script))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def found(browser) -> list[str]:
    """Search, and return the links of the results."""
    script = "return [...document.querySelectorAll('a.md-search-result__link')].map(link => link.href)"
    return browser.evaluate(script)


@pytest.mark.parametrize(
    ("words", "page"), [("replicas tensor parallel", "ranks.html"), ("to_frame", "reference/journal.html")]
)
def test_the_search_finds_pages_and_things_of_the_reference(site: Path, browser, words, page) -> None:
    browser.open(site / "index.html")
    browser.evaluate("document.querySelector('label[for=__search]').click()")
    browser.driver.find_element("name", "query").send_keys(words)
    browser.wait_for(lambda window: any(page in link for link in found(window)))
    assert browser.errors() == []


def test_the_reference_shows_docstrings_as_a_reader_wants_them(site: Path, browser) -> None:
    browser.open(site / "reference" / "reporting.html")
    text = browser.text()
    assert ">>> registry.report_metrics" in text
    assert "doctest" not in text
    assert "MetricRegistry(" in text  # the signature with its default values
    links = browser.evaluate(
        "return [...document.querySelectorAll('article a')].map(link => link.getAttribute('href'))"
    )
    assert "reducers.html#mtask_sinks.Reducer" in links
