"""Adds pages to the site that are outside of ``docs/``, where readers of the code expect them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

#: The paths of these pages in the repository. The site uses the same paths.
PAGES = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("integrations/*/README.md")),
]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for page in PAGES:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change links between pages inside and outside of ``docs/`` so that they work on the site."""
    path = page.file.src_uri
    if path in PAGES:
        return markdown.replace("](docs/", "](").replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    up = "../" * (path.count("/") + 1)
    for target in PAGES:
        markdown = markdown.replace(f"]({up}{target}", f"]({up.removeprefix('../')}{target}")
    return markdown
