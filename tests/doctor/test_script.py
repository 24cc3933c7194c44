"""Resolves the names in a script to what they were imported from."""

from __future__ import annotations

import pytest

from mtask_sinks.doctor.classes import method, reached, resolution_order
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.doctor.report_calls import report_calls
from mtask_sinks.doctor.script import Class, Script


def script(directory, text: str, **modules: str) -> Script:
    for name, content in {"train": text, **modules}.items():
        (directory / f"{name}.py").write_text(content)
    return Script(directory / "train.py")


@pytest.mark.parametrize(
    ("imports", "used", "name"),
    [
        ("from mtask_sinks import HfMultiTaskTrainer as T", "T", "mtask_sinks.HfMultiTaskTrainer"),
        ("from mtask_sinks.trainer import HfMultiTaskTrainer", "HfMultiTaskTrainer", "mtask_sinks.HfMultiTaskTrainer"),
        ("from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin as M", "M", "mtask_sinks.MultiTaskTrainerMixin"),
        ("import mtask_sinks.registry as r", "r.MetricRegistry", "mtask_sinks.MetricRegistry"),
        ("import mtask_sinks.reporting", "mtask_sinks.reporting.report_metrics", "mtask_sinks.report_metrics"),
        ("from mtask_sinks import testing", "testing.simulate_ranks", "mtask_sinks.testing.simulate_ranks"),
        (
            "from mtask_sinks import MetricRegistry as R",
            "R.report_metrics",
            "mtask_sinks.MetricRegistry.report_metrics",
        ),
        ("from other.mtask_sinks import Sink", "Sink", "other.mtask_sinks.Sink"),
    ],
)
def test_a_public_name_of_this_library_is_known_under_any_path(tmp_path, imports, used, name) -> None:
    assert name in script(tmp_path, f"{imports}\n{used}\n").used


def test_a_public_name_that_another_module_passes_on_is_known(tmp_path) -> None:
    found = script(
        tmp_path, "from own import Base\nBase", own="from mtask_sinks.trainer.mixin import HfMultiTaskTrainer as Base"
    )
    assert "mtask_sinks.HfMultiTaskTrainer" in found.used


def test_files_that_import_one_another_are_read_once(tmp_path) -> None:
    found = script(tmp_path, "import one, two", one="import two, train, torn", two="import one, torn", torn="def")
    assert [source.path.name for source in found.sources] == ["train.py", "one.py", "two.py"]
    assert [path.name for path in found.unread] == ["torn.py"]


def test_the_class_of_a_variable_is_known_beside_assignments_to_other_places(tmp_path) -> None:
    text = "class Model:\n    def __init__(self):\n        self.a = 1\nb, c = 1, 2\nmodel = Model()\nuse(model)\n"
    found = script(tmp_path, text)
    (argument,) = found.calls[-1].node.args
    assert found.class_of(found.sources[0], argument) is found.classes[f"{tmp_path}/train.py::Model"]


PLAIN_MODEL = "from torch import nn\nclass Model(nn.Module):\n    pass\n"


@pytest.mark.parametrize(
    "trains",
    [
        "from mtask_sinks.trainer import HfMultiTaskTrainer\nHfMultiTaskTrainer(Model(), args)\n",
        "from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin\nfrom transformers import Trainer\n"
        "class Mine(MultiTaskTrainerMixin, Trainer):\n    pass\nMine(Model(), args)\n",
    ],
)
def test_trainers_under_other_paths_are_multi_task_trainers(tmp_path, trains) -> None:
    (tmp_path / "train.py").write_text(PLAIN_MODEL + trains)
    found = examine_path(str(tmp_path / "train.py")).findings
    assert [finding.check for finding in found] == ["nothing-reports"]


def test_a_mixin_under_another_path_in_the_wrong_order_is_found(tmp_path) -> None:
    (tmp_path / "train.py").write_text(
        "from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin\nfrom transformers import Trainer\n"
        "class Mine(Trainer, MultiTaskTrainerMixin):\n    pass\n"
    )
    checks = [finding.check for finding in examine_path(str(tmp_path / "train.py")).findings]
    assert "mixin-order" in checks


def test_a_registry_under_another_path_may_train_with_any_trainer(tmp_path) -> None:
    (tmp_path / "train.py").write_text(
        "from mtask_sinks.registry import MetricRegistry\nfrom mtask_sinks.reporting import report_metrics\n"
        "from transformers import Trainer\nreport_metrics('a', x=1.0)\n"
        "with MetricRegistry().activate():\n    Trainer(model).train()\n"
    )
    assert examine_path(str(tmp_path / "train.py")).findings == []


def test_calls_are_told_apart_by_what_they_are_called_on(tmp_path) -> None:
    found = script(
        tmp_path,
        "from mtask_sinks.reporting.api import report_metrics as report\n"
        "class Model:\n    def f(self):\n        self.report_metrics('a', x=1)\n        report(x=1)\n"
        "registry.report_metrics('a', x=1)\nother(x=1)\n",
    )
    calls = {(call.kind, call.cls and call.cls.node.name, call.is_grouped) for call in report_calls(found)}
    assert calls == {("self", "Model", True), ("function", "Model", False), ("object", None, True)}


ORDER = """
from elsewhere import Other
from transformers import Trainer
class Base(Trainer): pass
class Left(Base): pass
class Right(Base, Other): pass
class Both(Left, unknown(), Right): pass
class Round(Circle): pass
class Circle(Round): pass
"""


def test_bases_come_in_the_order_in_which_python_looks_for_a_method(tmp_path) -> None:
    found = script(tmp_path, ORDER)
    by_name = {cls.node.name: cls for cls in found.classes.values()}
    order = resolution_order(found, by_name["Both"])
    assert [each.node.name if isinstance(each, Class) else each for each in order] == [
        *("Both", "Left", None, "Right", "Base", "transformers.Trainer", "elsewhere.Other")
    ]
    assert {by_name["Round"], by_name["Circle"]} == set(resolution_order(found, by_name["Round"]))


REACHES = """
from model import helps
class Mine:
    def begin(self):
        self.run(callback=self.end)
    def run(self, callback):
        helps(1)
    def end(self):
        self.begin()
    def other(self):
        pass
"""


def test_a_method_reaches_what_it_calls_and_what_it_passes_on(tmp_path) -> None:
    found = script(tmp_path, REACHES, model="def helps(x):\n    deeper(x)\ndef deeper(x):\n    pass\n")
    (cls,) = found.classes.values()
    begin = method(cls, "begin")
    assert [function.node.name for function in reached(found, begin)] == ["begin", "run", "end", "helps", "deeper"]


def test_the_class_of_a_value_is_known_if_it_is_made_in_the_script(tmp_path) -> None:
    text = "class Model: pass\na = Model()\nb = Model()\nb = load()\nc = load()\nuse(Model(), a, b, c, d)"
    found = script(tmp_path, text)
    arguments = next(call.node.args for call in found.calls if call.node.args)
    classes = [found.class_of(found.main, each) for each in arguments]
    assert [each and each.node.name for each in classes] == ["Model", "Model", None, None, None]
