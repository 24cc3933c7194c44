"""The README and every page of the documentation: their Python runs, their commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from helpers.documents import DOCUMENTS, ROOT, code_of, read_blocks, sides

from mtask_sinks import SinkArguments
from mtask_sinks.cli import app
from mtask_sinks.delivery.open_deliveries import close_all

FIRST = "docs/index.md"

_INLINE = re.compile(r"`(?:[A-Z_]+=\S+ )*mtask-sinks ([^`]+)`")
_TYPED = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?mtask-sinks ([a-z]+(?: .+)?)$")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_ANCHOR = re.compile(r"\]\((?!https?:|[^)]*reference/)([^)#\s]*)#([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def run(document: str, namespace: dict[str, object]) -> dict[str, object]:
    """All Python blocks of a document, in order, as one program in the current directory."""
    for block in code_of(document, "python"):
        exec(compile(block, document, "exec"), namespace)
    close_all()  # what the end of the program does; at that of the tests the current directory would be another one
    return namespace


@pytest.fixture(scope="module")
def first_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    """The first page, which others continue: its names, and the directory in which it ran."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("first"))
        return run(FIRST, {"__name__": FIRST}), Path.cwd()


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if code_of(document, "python")])
def test_the_python_blocks_run(document: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    text = DOCUMENTS[document].read_text()
    if "mlflow" in "".join(code_of(document, "python")):
        request.getfixturevalue("mlflow_store")
    namespace: dict[str, object] = {}
    if document == FIRST or "<!-- continues index.md -->" in text:
        names, directory = request.getfixturevalue("first_page")
        shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
        namespace = names
    if document != FIRST:
        run(document, {**namespace, "__name__": document, "output_dir": str(tmp_path / "out")})


def test_the_script_of_the_readme_runs_before_the_change_too() -> None:
    (change,) = code_of("README.md", "diff")
    before, after = sides(change)
    assert "mtask_sinks" in after and "mtask_sinks" not in before
    exec(compile(before, "README.md", "exec"), {"__name__": "before"})


def test_ci_runs_the_command_that_the_readme_names() -> None:
    _, tests = code_of("README.md", "sh")
    assert tests.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_first_command_installs_and_runs_the_main_job() -> None:
    first, _ = code_of("README.md", "sh")
    assert first.strip().endswith("mtask-sinks demo")
    assert "-c constraints.txt" in first


def typed_commands() -> list[str]:
    """What a reader may type: the lines of blocks that begin with the command. What follows two blanks is a comment."""
    texts = [block.code for page in DOCUMENTS for block in read_blocks(page)]
    lines = [part.strip() for text in texts for line in text.splitlines() for part in line.split("&&")]
    return sorted({found[1].partition("  ")[0].strip() for line in lines if (found := _TYPED.match(line))})


@pytest.mark.parametrize("arguments", typed_commands())
def test_a_command_in_a_block_can_be_given(arguments: str) -> None:
    name, *rest = shlex.split(arguments)
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, rest)  # raises where an argument or option is not known


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_in_the_text_exist(document: str) -> None:
    commands = typer.main.get_command(app).commands
    for name, *rest in map(str.split, _INLINE.findall(DOCUMENTS[document].read_text())):
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("-")} <= known, (name, rest)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_links_from_outside_the_site_lead_to_files(document: str) -> None:
    path = ROOT / document
    missing = [link for link in _LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_headings_also_on_github(document: str) -> None:
    """GitHub makes other anchors than the site, for example if a heading has ``&``. `tox -e docs` checks the site's."""
    path = DOCUMENTS[document]
    for file, anchor in _ANCHOR.findall(path.read_text()):
        headings = _HEADING.findall((path.parent / file if file else path).read_text())
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_the_page_of_the_command_line_has_every_option_of_sink_arguments() -> None:
    text = DOCUMENTS["docs/command-line.md"].read_text()
    assert [f.name for f in fields(SinkArguments) if f"`--{f.name}`" not in text] == []
