"""The documentation as a reader opens it: files in a directory, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Everything that a page has loaded or would load, except the links that a reader can click.
_LOADED = """
const parts = document.querySelectorAll("script[src], link[rel=stylesheet], link[rel=icon], img, iframe[src]")
return [...parts].map(part => part.src || part.href).concat(performance.getEntriesByType("resource").map(e => e.name))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return directory


def test_every_page_loads_from_a_directory_and_asks_nobody(site: Path, browser) -> None:
    pages = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    assert len(pages) > 25
    for page in pages:
        browser.open(page)
        assert browser.evaluate("return document.querySelector('h1').innerText"), page
        assert [address for address in browser.evaluate(_LOADED) if not address.startswith("file:")] == [], page
        assert browser.errors() == [], page


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
