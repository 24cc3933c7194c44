"""Makes scripts for the doctor's test cases from parts."""

from __future__ import annotations

from textwrap import dedent, indent

MODEL = """
from mtask_sinks import HfMultiTaskTrainer, report_metrics
class Model(nn.Module):
    supports_report_metrics: bool = True
    def forward(self, x, step=0):
        if hasattr(self, "report_metrics"):
            self.report_metrics({report})
trainer = HfMultiTaskTrainer(Model(), args{more})
"""


def reporting(report: str = '"a", loss=x', more: str = "") -> str:
    """Make a script that is correct except, perhaps, for what it reports."""
    return MODEL.format(report=report, more=more)


def in_class(body: str, bases: str = "nn.Module", before: str = "") -> str:
    lines = dedent(body).strip().replace("\n", "\n    ")
    head = "from torch import nn\nfrom mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin"
    return f"{head}\n{before}\nclass Model({bases}):\n    {lines}\nHfMultiTaskTrainer(Model(), args)\n"


FLAG = "supports_report_metrics = True\n"
CALLS = "def forward(self, x):\n    self.report_metrics('a', loss=x)"
GUARDED = "def forward(self, x):\n    if hasattr(self, 'report_metrics'):\n        self.report_metrics('a', loss=x)"
USES = "from mtask_sinks import HfMultiTaskTrainer\n"
REPORTS = "from mtask_sinks import report_metrics\nreport_metrics('a', x=x)\n"
REGISTRY = "from mtask_sinks import MetricRegistry, report_metrics\n"
ASKING = (
    "class Base(nn.Module):\n    supports_report_metrics = 1\n    def f(self):\n        hasattr(self, 'report_metrics')"
)
PLAIN = "from transformers import Trainer\n"
MIXIN = "from mtask_sinks import MultiTaskTrainerMixin\nfrom trl import SFTTrainer\nfrom transformers import Trainer\n"
BASE = "class Base(Trainer):\n"
TRAINERS = """
from torch import nn
from transformers import Trainer
from mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin, report_metrics
"""


def overriding(body: str, bases: str = "HfMultiTaskTrainer", before: str = "") -> str:
    """Make a script with a trainer class, and with a model that reports in its forward."""
    cls = f"class Mine({bases}):\n{indent(dedent(body).strip(), '    ')}\n"
    return f"{reporting()}{TRAINERS}{dedent(before)}\n{cls}\n"
