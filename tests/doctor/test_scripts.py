"""For each check, the smallest script with the mistake, and a script that almost has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.doctor_cases import CASES
from helpers.doctor_scripts import FLAG, reporting
from helpers.documents import DOCUMENTS, python_of

from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.doctor.listing import SCRIPT_CHECKS

ROOT = Path(__file__).parents[2]


def findings(directory: Path, script: str, **modules: str):
    for name, text in {"train": script, **modules}.items():
        (directory / f"{name}.py").write_text(text)
    return examine_path(str(directory / "train.py")).findings


shows = [(check, script, text) for check, (those, _) in CASES.items() for script, text in those]
nearly = [(check, script) for check, (_, those) in CASES.items() for script in those]


@pytest.mark.parametrize(("check", "script", "text"), shows)
def test_what_is_wrong_is_found(tmp_path, check, script, text) -> None:
    found = [each for each in findings(tmp_path, script) if each.check == check]
    assert len(found) == 1, found
    assert text in f"{found[0].what} {found[0].remedy}"
    assert re.fullmatch(r"train\.py:\d+:\d+", found[0].where)


@pytest.mark.parametrize(("check", "script"), nearly)
def test_what_nearly_is_wrong_is_not(tmp_path, check, script) -> None:
    assert check not in [each.check for each in findings(tmp_path, script)]


def test_every_check_has_cases() -> None:
    assert list(CASES) == [check.name for check in SCRIPT_CHECKS]


def test_a_script_without_fault_has_no_finding(tmp_path) -> None:
    assert findings(tmp_path, reporting()) == []


def test_a_report_without_gradients_is_fine(tmp_path) -> None:
    assert findings(tmp_path, reporting() + "with torch.no_grad():\n    report_metrics('a', x=x)\n") == []


def test_a_finding_names_its_line(tmp_path) -> None:
    (found,) = findings(tmp_path, reporting() + "\nTrainingArguments(\n    out,\n    report_to='tensorbord',\n)\n")
    assert (found.severity, found.where) == ("error", "train.py:12:15")


def test_modules_beside_the_script_are_read_too(tmp_path) -> None:
    train = "from mtask_sinks import HfMultiTaskTrainer\nfrom model import Model\nHfMultiTaskTrainer(Model(), args)"
    model = (
        "from base import Base\nclass Model(Base):\n    def forward(self, x):\n        self.report_metrics('a b', x=x)"
    )
    base = "from torch import nn\nclass Base(nn.Module):\n    supports_report_metrics = True"
    found = findings(tmp_path, train, model=model, base=base)
    assert [(each.check, each.where) for each in found] == [
        ("invalid-key", "model.py:4:29"),
        ("no-guard", "model.py:4:9"),
    ]
    assert examine_path("train.py").read == ["train.py", f"{tmp_path}/model.py", f"{tmp_path}/base.py"]


def test_packages_beside_the_script_and_what_they_pass_on_are_read(tmp_path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("from .bert import Bert\nfrom . import other")
    (tmp_path / "models" / "other.py").write_text("")
    (tmp_path / "models" / "bert.py").write_text(f"from torch import nn\nclass Bert(nn.Module):\n    {FLAG}")
    train = (
        "from mtask_sinks import HfMultiTaskTrainer\nimport models\nfrom models import Bert\n"
        "class Mine(Bert):\n    def forward(self, x):\n        self.report_metrics(x=x)\n"
        "class Other(models.Bert):\n    def forward(self, x):\n        self.report_metrics(x=x)\n"
        "HfMultiTaskTrainer(Mine())"
    )
    # Both have the flag from the package, and neither checks that the method exists.
    assert [each.check for each in findings(tmp_path, train)] == ["no-guard", "no-guard"]


def test_a_module_beside_it_that_is_no_python_is_left_out(tmp_path) -> None:
    train = "from mtask_sinks import HfMultiTaskTrainer\nfrom model import Model\nHfMultiTaskTrainer(Model(), args)"
    assert findings(tmp_path, train, model="class Model(") == []


def test_modules_that_are_not_read_are_named(tmp_path) -> None:
    names = [f"part{number}" for number in range(60)]
    for name in names:
        (tmp_path / f"{name}.py").write_text("import torch" if name != "part7" else "class Model(")
    script = tmp_path / "train.py"
    script.write_text("\n".join(f"import {name}" for name in names))
    found = examine_path(str(script))
    beside = [str(tmp_path / f"{name}.py") for name in names]
    # The script and 49 modules are read. One of the first 50 modules is no Python.
    assert found.unread == [beside[7], *beside[50:]]
    assert found.read == [str(script), *beside[:7], *beside[8:50]]


def test_a_script_that_is_not_python_has_one_finding(tmp_path) -> None:
    (found,) = findings(tmp_path, "import os\n\ndef f(:\n")
    assert (found.check, found.severity, found.where) == ("syntax", "error", f"{tmp_path}/train.py:3:7")


def test_nothing_of_the_script_is_run(tmp_path) -> None:
    findings(tmp_path, "import model\nopen('touched', 'w')", model="open('touched', 'w')")
    assert not (tmp_path / "touched").exists()


SOUND = [*ROOT.glob("integrations/*/example.py"), *ROOT.glob("mtask_sinks/demo/*.py")]


@pytest.mark.parametrize("path", SOUND, ids=lambda path: str(path.relative_to(ROOT)))
def test_there_is_no_false_alarm_on_examples_and_demo(path) -> None:
    assert examine_path(str(path)).findings == []


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if python_of(page)])
def test_there_is_no_false_alarm_on_what_the_documentation_shows(tmp_path, page) -> None:
    found = {each.check for each in findings(tmp_path, "\n".join(python_of(page))) if each.severity != "hint"}
    # One page shows what becomes of a name that is not valid.
    assert found == ({"invalid-key"} if page == "docs/reporting.md" else set())


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/testing.md"])
def test_there_is_no_hint_on_the_first_pages(tmp_path, page) -> None:
    blocks = python_of(page)
    assert blocks
    assert [each for each in findings(tmp_path, "\n".join(blocks)) if each.check != "no-sink"] == []


def test_an_expression_deeper_than_python_calls_is_read(tmp_path) -> None:
    deep = " + ".join(["1"] * 1200)
    found = findings(
        tmp_path, f"x = {deep}\nfrom mtask_sinks import report_metrics\nreport_metrics('mlm', **{{'lo ss': 1}})"
    )
    assert "invalid-key" in {each.check for each in found}


@pytest.mark.parametrize("deep", [" + ".join(["1"] * 50_000), "-" * 20_000 + "1", "f" + "()" * 50_000])
def test_a_script_that_python_itself_cannot_read_is_a_finding(deep, tmp_path) -> None:
    (found,) = findings(tmp_path, f"x = {deep}")
    assert (found.check, found.severity) == ("syntax", "error")


def test_an_import_that_climbs_out_of_everything_is_no_crash(tmp_path) -> None:
    assert findings(tmp_path, f"from {'.' * 60} import x") == []


def test_a_script_beside_the_sources_of_this_library_is_read_as_any_other(tmp_path) -> None:
    (tmp_path / "mtask_sinks").symlink_to(ROOT / "mtask_sinks")
    (block,) = python_of("README.md")
    assert findings(tmp_path, block) == []
