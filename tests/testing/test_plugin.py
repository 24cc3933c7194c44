"""Runs pytest with the plug-in, as a user who names it sees it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# The inner runs import these. pytester removes new modules afterwards, and their classes would then exist twice.
import mtask_sinks.sinks.memory
import mtask_sinks.testing.metric_ranks
import mtask_sinks.trainer.mixin  # noqa: F401

ROOT = Path(__file__).parents[2]

MODEL = """
import torch
from torch import nn

from mtask_sinks import weighted


class Model(nn.Module):
    supports_report_metrics = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x, has_b=False):
        loss = (self.weight * x).mean()
        if hasattr(self, "report_metrics"):
            self.report_metrics("a", loss=weighted(loss, len(x)), n=len(x))
            if has_b:
                self.report_metrics("b", loss=loss)
        return (loss,)
"""

TESTS = """
import pytest
import torch
from model import Model

ROWS = [
    {"x": torch.tensor([1.0, 2.0, 3.0])},
    {"x": torch.tensor([10.0]), "has_b": True},
    {"x": torch.tensor([0.0, 8.0])},
]


@pytest.fixture
def metric_rules():
    return {"reducers": {"*/n": "sum"}}


def test_plain(metric_reports):
    model = Model()
    with metric_reports.on(model):
        model(**ROWS[0])
        model(**ROWS[1])
    assert dict(metric_reports.snapshot().metrics) == {"a/loss": 4.0, "a/n": 4.0, "b/loss": 10.0}
    assert [call.task for call in metric_reports.calls] == ["a", "a", "b"]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks(metric_ranks, size):
    ranks = metric_ranks(size)
    ranks.feed(Model(), ROWS)
    assert dict(ranks.snapshot().metrics) == {"a/loss": 4.0, "a/n": 6.0, "b/loss": 10.0}


def test_rules_of_one_test(metric_ranks):
    ranks = metric_ranks(2, reducers={"*/n": "max"})
    ranks.feed(Model(), ROWS)
    assert ranks.snapshot().metrics["a/n"] == 3.0


def test_training(memory_sink, tmp_path):
    from transformers import TrainingArguments

    from mtask_sinks import HfMultiTaskTrainer

    args = TrainingArguments(
        str(tmp_path), max_steps=2, logging_steps=1, report_to="none", use_cpu=True, learning_rate=0.0,
        save_strategy="no", per_device_train_batch_size=1, disable_tqdm=True,
    )
    HfMultiTaskTrainer(Model(), args, train_dataset=[{"x": torch.tensor([5.0])}] * 2, sinks=[memory_sink]).train()
    assert memory_sink.series("a/loss") == [(1, 5.0), (2, 5.0)]
    assert memory_sink.closed == ["finished"]


def test_a_rank_that_raises(metric_ranks):
    metric_ranks(2).run(lambda rank: 1 / (1 - rank))


class TestRulesThatAreNone:
    @pytest.fixture
    def metric_rules(self):
        return ["mean"]

    def test_they_are_told(self, metric_reports):
        pass
"""


@pytest.fixture
def arguments(pytester) -> list[str]:
    pytester.makeconftest('pytest_plugins = ["mtask_sinks.testing.plugin"]')
    return ["-p", "no:cacheprovider"]


def test_the_fixtures_work_in_somebodys_tests(pytester, arguments) -> None:
    pytester.makepyfile(model=MODEL, test_model=TESTS)
    done = pytester.runpytest_inprocess(*arguments)
    done.assert_outcomes(passed=6, failed=1, errors=1)
    done.stdout.fnmatch_lines(["*TypeError: the fixture metric_rules returns*'mean'*It must return a dict*"])
    done.stdout.fnmatch_lines(["*ZeroDivisionError*", "*on rank 1 of 2*"])


def test_the_tests_of_the_documentation_pass(pytester, arguments) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/testing.md").read_text(), re.DOTALL | re.MULTILINE)
    pytester.makepyfile(test_page="\n\n".join(blocks))
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=7)


def test_the_fixtures_are_listed_with_their_help(pytester, arguments) -> None:
    listed = pytester.runpytest_inprocess(*arguments, "--fixtures").stdout.str()
    for name in ("metric_reports", "metric_ranks", "metric_rules", "memory_sink"):
        assert f"\n{name} --" in listed
    assert "with metric_reports.on(model): ..." in listed


def test_the_plugin_costs_a_run_of_pytest_no_import_of_torch(tmp_path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    assert 'mtask_sinks.testing.plugin' in sys.modules\n"
        "    heavy = ('torch', 'transformers', 'numpy', 'accelerate', 'rich')\n"
        "    assert [name for name in heavy if name in sys.modules] == []\n"
    )
    # Without other packages' plug-ins, which may import anything.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mtask_sinks.testing.plugin", "-p", "no:cacheprovider"]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert "1 passed" in done.stdout, done.stdout


def test_no_run_of_pytest_loads_the_plugin_unless_it_is_named(pytester) -> None:
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert "pytest11" not in offered
    pytester.makepyfile(
        """
        def test_it(request):
            assert not any("mtask_sinks" in str(each) for each in request.config.pluginmanager.get_plugins())
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
