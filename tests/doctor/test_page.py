"""The tables of findings in the documentation are equal to those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from mtask_sinks.doctor.listing import finding_kinds

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()


def test_the_page_lists_every_finding_as_the_code_does() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(kind.check, kind.severity, kind.title) for kind in finding_kinds()]


def test_every_finding_has_a_name_of_its_own_and_a_line() -> None:
    names = [kind.check for kind in finding_kinds()]
    assert len(names) == len(set(names))
    assert all(20 < len(kind.title) < 120 for kind in finding_kinds())


def test_the_python_of_the_page_runs(tmp_path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(block, "doctor.md", "exec"), {"output_dir": str(tmp_path / "out")})
