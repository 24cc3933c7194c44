from __future__ import annotations

import pytest

from mtask_sinks.doctor.finding import Finding
from mtask_sinks.doctor.noqa import without_noqa

TEXT = """\
x = 1  # noqa: a-check
# noqa: a-check
y = "# noqa: a-check"
z = f(
    1,  # noqa: E501 a-check
    2,
)
def g():  # NOQA:b-check,a-check
    return 1  # noqa
w = 3  # noqa: other-a-check
"""


@pytest.mark.parametrize(
    ("line", "is_left_out"),
    [(1, True), (3, False), (4, True), (5, True), (7, True), (8, True), (9, False), (10, False)],
)
def test_a_comment_in_the_same_statement_with_the_name_of_the_check_leaves_it_out(tmp_path, line, is_left_out) -> None:
    path = tmp_path / "train.py"
    path.write_text(TEXT)
    finding = Finding("a-check", "error", f"{path}:{line}:1", "what", "remedy")
    assert without_noqa([finding]) == ([] if is_left_out else [finding])


def test_findings_of_trainings_and_of_files_that_cannot_be_read_stay(tmp_path) -> None:
    (tmp_path / "bad.py").write_text("x = (  # noqa: syntax\n")
    places = ("bert, step 2", f"{tmp_path}/bad.py:1:5", f"{tmp_path}/gone.py:1:1")
    findings = [Finding("syntax", "error", where, "what", "remedy") for where in places]
    assert without_noqa(findings) == findings
