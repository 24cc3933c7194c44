from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mtask_sinks._util.lazy import lazy_names


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("a_lazy_package")
    module.__getattr__ = lazy_names("a_lazy_package", {"Fraction": "fractions"})  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "a_lazy_package", module)
    return module


def test_a_name_is_imported_when_it_is_used_and_kept(package: ModuleType) -> None:
    from fractions import Fraction

    assert "Fraction" not in vars(package)
    assert package.Fraction is Fraction
    assert vars(package)["Fraction"] is Fraction


def test_another_name_is_an_attribute_error_that_names_the_package(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'a_lazy_package' has no attribute 'Decimal'"):
        package.Decimal  # noqa: B018
