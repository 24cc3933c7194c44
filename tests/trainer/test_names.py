"""No name of the mixin is one that a Trainer class of others uses for something else."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import Trainer

from mtask_sinks import MultiTaskTrainerMixin
from mtask_sinks.trainer.log_rows import LogRowsMixin
from mtask_sinks.trainer.steps import StepsMixin

#: Methods of the Trainer that the mixin extends.
EXTENDED = {name for name in vars(MultiTaskTrainerMixin) if hasattr(Trainer, name)}

_NAMES = re.compile(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]|^    def (\w+)\(self", re.MULTILINE)


def names_of_ours() -> set[str]:
    """Methods and attributes that the mixin adds to a trainer."""
    names: set[str] = set()
    for cls in (MultiTaskTrainerMixin, LogRowsMixin, StepsMixin):
        names |= {name for name in (*vars(cls), *cls.__annotations__) if not name.startswith("__")}
    return names - EXTENDED - {name for name in vars(Trainer) if not name.startswith("__")}


def trainers_of(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    return sorted(path for path in Path(spec.origin).parent.rglob("*trainer*.py") if "test" not in path.name)


@pytest.mark.parametrize("package", ["transformers", "trl", "sentence_transformers", "setfit", "peft"])
def test_no_trainer_has_an_attribute_of_that_name(package: str) -> None:
    ours = names_of_ours()
    assert {"_session", "_counting_steps", "report_phase", "sink_counts"} <= ours
    for path in trainers_of(package):
        theirs = set(
            re.findall(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]|^    def (\w+)\(self", path.read_text(), re.MULTILINE)
        )
        assert not ours & {name for pair in theirs for name in pair}, path
