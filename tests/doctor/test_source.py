from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mtask_sinks.doctor.source import Source, read_source


def read(directory: Path, text: str) -> Source:
    """Read a file with a module ``model`` in the same directory."""
    (directory / "train.py").write_text(text)
    found = {"model": directory / "model.py"}
    return read_source(directory / "train.py", lambda importer, module, level: found.get(module))


@pytest.mark.parametrize(
    ("text", "expression", "stands_for"),
    [
        ("import torch", "torch.nn.Linear", "torch.nn.Linear"),
        ("import torch.nn as nn", "nn.Linear", "torch.nn.Linear"),
        ("from torch.nn import Linear as L", "L", "torch.nn.Linear"),
        ("from model import Model", "Model", "{}/model.py::Model"),
        ("import model", "model.Model", "{}/model.py::Model"),
        ("", "own", "{}/train.py::own"),
        ("", "f().x", None),
    ],
)
def test_names_stand_for_what_they_were_imported_as(tmp_path, text, expression, stands_for) -> None:
    source = read(tmp_path, text)
    expected = stands_for and stands_for.format(tmp_path)
    assert source.dotted(ast.parse(expression, mode="eval").body) == expected


def test_imports_and_bindings_are_told_apart(tmp_path) -> None:
    source = read(
        tmp_path, "import os\nfrom model import Model\nfrom yaml import *\ndef f(a):\n    b = a\nclass C: ..."
    )
    assert source.imported == (tmp_path / "model.py",)
    assert source.foreign == {"os", "yaml"}
    assert source.has_star
    assert source.bound == {"f", "a", "b", "C"}


@pytest.mark.parametrize("text", ["def f(:", "x = '\0'"])
def test_what_is_not_python_raises(tmp_path, text) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        read(tmp_path, text)
