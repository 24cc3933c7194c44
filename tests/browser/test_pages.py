"""The browser itself, on a page that the test writes."""

from __future__ import annotations


def test_a_page_is_seen(browser, tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p id=a>one</p><script>document.title = 1 + 1; throw new Error('trouble')</script>")
    browser.open(page)
    assert browser.text() == "one"
    assert browser.driver.title == "2"
    assert "trouble" in browser.errors()[0]
    assert browser.screenshot(tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
