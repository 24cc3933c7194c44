"""What is said twice about a release agrees: versions, lowest versions, the files of the sdist."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import mtask_sinks

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
]

# Without the package itself, and without torch, which has one version in all environments.
LOWEST = {
    found[1]: found[2]
    for requirement in REQUIREMENTS
    if (found := re.match(r"([\w-]+)>=([\d.]+)", requirement)) and found[1] != "torch"
}


def pins(name: str) -> dict[str, str]:
    """Package → version in one of the files of constraints."""
    lines = (ROOT / name).read_text().splitlines()
    return {found[1].lower(): found[2] for line in lines if (found := re.match(r"([\w.-]+)==(\S+)", line))}


def numbers(text: str) -> list[int]:
    """A version without zeros at its end: 1.1 and 1.1.0 are the same."""
    parts = [int(part) for part in text.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return parts


def test_the_version_comes_from_the_project_file() -> None:
    assert mtask_sinks.__version__ == version("mtask-sinks") == PROJECT["version"]


def test_no_other_file_says_the_version() -> None:
    files = [*(ROOT / "mtask_sinks").rglob("*.py"), ROOT / "mkdocs.yml", ROOT / "README.md"]
    assert [path.name for path in files if PROJECT["version"] in path.read_text()] == []


@pytest.mark.parametrize("package", sorted(LOWEST))
def test_the_lowest_versions_are_those_that_the_environment_lowest_tests(package: str) -> None:
    assert numbers(pins("constraints-lowest.txt")[package]) == numbers(LOWEST[package])


def test_every_environment_tests_the_same_torch() -> None:
    assert {pins(path.name)["torch"] for path in ROOT.glob("constraints*.txt")} == {pins("constraints.txt")["torch"]}


def test_the_sdist_has_what_its_tests_need(tmp_path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    environments = re.findall(r"\{tox_root\}\{/\}(constraints[\w-]*\.txt)", (ROOT / "tox.ini").read_text())
    assert {"tox.ini", "mkdocs.yml", ".ci/run", "tests/conftest.py", "docs/index.md", *environments} <= names
    assert not {name for name in names if name.endswith(".pyc") or name.startswith(("build", ".github"))}
