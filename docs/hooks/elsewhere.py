"""Pages of the site that lie elsewhere in the repository, where who reads the code expects them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

#: Their paths, from the root of the repository, where they have the same path on the site.
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
    """Let links that lead out of ``docs/``, or into it, lead to where their targets are on the site."""
    path = page.file.src_uri
    if path in PAGES:
        return markdown.replace("](docs/", "](").replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    up = "../" * (path.count("/") + 1)
    for target in PAGES:
        markdown = markdown.replace(f"]({up}{target}", f"]({up.removeprefix('../')}{target}")
    return markdown
