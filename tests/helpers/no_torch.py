"""A pytest plug-in for an environment without torch: tests that import it are skipped, all others run.

It is for ``PYTHONPATH=tests python -m pytest -p helpers.no_torch``, which `tox -e py312-notorch` runs.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

import pytest

_Report = TypeVar("_Report", pytest.CollectReport, pytest.TestReport)
_NOT_INSTALLED = tuple(name for name in ("accelerate", "torch", "transformers") if find_spec(name) is None)


def pytest_configure() -> None:
    if "torch" not in _NOT_INSTALLED:
        raise pytest.UsageError("torch is installed here: leave out `-p helpers.no_torch`, so that no test is skipped.")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that imports torch at its top."""
    report = yield
    report = _skipped_without_torch(report, report.call.excinfo, collector)
    if report.skipped:  # pytest leaves half a module behind; another test module must not import that
        for name in [name for name, module in sys.modules.items() if _file_of(module) == str(collector.path)]:
            del sys.modules[name]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that imports torch while it runs."""
    return _skipped_without_torch((yield), call.excinfo, item)


def _skipped_without_torch(
    report: _Report, excinfo: pytest.ExceptionInfo[BaseException] | None, node: pytest.Collector | pytest.Item
) -> _Report:
    if report.failed and excinfo is not None and _is_about_torch(excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(node.path), 0, "Skipped: needs torch")
    return report


def _file_of(module: ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _is_about_torch(error: BaseException | None) -> bool:
    """Return whether an import of a package that is not installed caused the error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _NOT_INSTALLED:
            return True
        error = error.__cause__
    return False
