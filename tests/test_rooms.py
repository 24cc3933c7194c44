"""Every module has a test module at the same place, or its room's test folder names the test that covers it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "mtask_sinks"
MODULES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")
)


def named_elsewhere(room: str) -> dict[str, str]:
    """Module → test, from the room's table."""
    page = TESTS / room / "README.md"
    return (
        dict(re.findall(r"^\| `([\w/]+)` \| `([\w/.]+)` \|$", page.read_text(), re.MULTILINE)) if page.exists() else {}
    )


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_a_test(module: Path) -> None:
    if (TESTS / module.parent / f"test_{module.name}").is_file():
        return
    if len(module.parts) == 1:
        assert module.name == "errors.py"  # which the tests of those who raise them cover
        return
    room, *inside = module.with_suffix("").parts
    elsewhere = named_elsewhere(room).get("/".join(inside), "")
    assert (TESTS.parent / elsewhere).is_file(), f"write test_{module.name}, or a row in tests/{room}/README.md"


@pytest.mark.parametrize("room", sorted({module.parts[0] for module in MODULES if len(module.parts) > 1}))
def test_the_tables_name_modules_that_are_there(room: str) -> None:
    for name in named_elsewhere(room):
        assert (PACKAGE / room / f"{name}.py").is_file()
        assert not (TESTS / room / Path(name).parent / f"test_{Path(name).name}.py").exists()


def test_the_root_of_the_package_holds_few_modules() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= 12


@pytest.mark.parametrize("room", sorted({str(module.parent) for module in MODULES if len(module.parts) > 1}))
def test_every_room_says_what_it_holds(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    assert 3 <= len([line for line in docstring.splitlines() if line and not line.startswith((">>>", "..."))]) <= 14
