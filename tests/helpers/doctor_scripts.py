"""Scripts that each have one mistake, and scripts that almost have it."""

from __future__ import annotations

from textwrap import dedent

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

#: Check → scripts that show it, with what it says; and scripts that nearly do.
CASES = {
    "nothing-reports": (
        [
            (USES + "HfMultiTaskTrainer(BertModel(config), args)", "the script seems to report nothing"),
            (in_class("supports_report_metrics = False\ndef forward(self, x):\n    return x"), "capture='*loss*'"),
        ],
        [
            USES + "HfMultiTaskTrainer(model, args, capture='*loss*')",
            USES + "from my_models import Model\nHfMultiTaskTrainer(Model(), args)",
            USES + "from mtask_sinks import report_metrics\nHfMultiTaskTrainer(m, a, callbacks=[report_metrics])",
            "from mtask_sinks import MetricRegistry\nMetricRegistry()",
        ],
    ),
    "no-flag": (
        [
            (in_class(CALLS), "Model calls self.report_metrics, but neither it nor its base classes set"),
            (in_class(GUARDED), "from mtask_sinks import report_metrics"),
            (in_class("supports_report_metrics = False\n" + GUARDED), "the trainer never gives it that method"),
        ],
        [
            in_class(FLAG + GUARDED),
            in_class(GUARDED, before="class Base(nn.Module):\n    supports_report_metrics: bool = True", bases="Base"),
            in_class(GUARDED, before="from my_models import Base", bases="Base"),
            in_class(GUARDED, before="class Part:\n    " + FLAG) + "Model.supports_report_metrics = True",
            in_class("def __init__(self):\n    self.supports_report_metrics = True\n" + GUARDED),
            in_class("def report_metrics(self, *a, **k):\n    pass\n" + GUARDED),
            in_class(GUARDED).replace("HfMultiTaskTrainer(Model(), args)", "").replace("HfMultiTaskTrainer, ", ""),
        ],
    ),
    "no-guard": (
        [
            (in_class(FLAG + CALLS), "a forward in plain inference raises AttributeError"),
            (in_class(f"{FLAG}def f(self, x):\n    if self.training:\n        self.report_metrics(x=x)"), "hasattr"),
        ],
        [
            in_class(FLAG + GUARDED),
            in_class(FLAG + "def f(self):\n    getattr(self, 'report_metrics', 0)\n    self.report_metrics(x=x)"),
            in_class(FLAG + "def f(self):\n    try: self.report_metrics(x=x)\n    except AttributeError: pass"),
            in_class(CALLS, before=ASKING, bases="Base"),
            in_class(FLAG + CALLS, before="from my_models import Base", bases="Base"),
        ],
    ),
    "not-imported": (
        [("def loss(x):\n    report_metrics('a', loss=x)", "the call raises NameError")],
        [
            "from mtask_sinks import report_metrics\nreport_metrics('a', loss=x)",
            "from helpers import *\nreport_metrics('a', loss=x)",
            "def loss(x, report_metrics):\n    report_metrics('a', loss=x)",
            "def report_metrics(**values):\n    pass\nreport_metrics(loss=x)",
            "import mtask_sinks\nreport_metrics = mtask_sinks.report_metrics\nreport_metrics('a', loss=x)",
        ],
    ),
    "positional-values": (
        [(reporting('"a", x'), "Pass values by keyword"), (reporting("1.0"), "by position")],
        [reporting("name, loss=x"), reporting("None, loss=x")],
    ),
    "reserved-key": (
        [
            (reporting("loss=x"), "'loss' is a name that the Trainer logs itself"),
            (reporting("**{'eval_acc': x}"), "report_metrics('my_task', eval_acc=...)"),
        ],
        [
            reporting('"a", loss=x'),
            reporting("acc=x"),
            "from mtask_sinks import MetricRegistry\nregistry = MetricRegistry()\nregistry.report_metrics(loss=x)",
            REGISTRY + "with MetricRegistry().activate():\n    report_metrics(loss=x)",
        ],
    ),
    "invalid-key": (
        [
            (reporting('"mlm loss", x=x'), "'mlm loss' is no valid key"),
            (reporting('"mlm loss", x=x'), "Call it 'mlm_loss'"),
            (reporting('"", x=x'), "'' is no valid key"),
            (reporting("**{'top 1': x}"), "'top 1' is no valid key"),
            (reporting("**{'größe (m)': x}"), "Call it 'größe_m'"),
        ],
        [reporting('"mlm/top-1.acc", x=x'), reporting('"a", größe=x'), reporting("**{name: x, 'top-1': x}")],
    ),
    "key-per-step": (
        [
            (reporting("f'step_{step}', loss=x"), "computed from 'step'"),
            (reporting("'a', **{f'loss_{self.state.global_step}': x}"), "computed from 'global_step'"),
            (reporting("**{f'at_{batch_idx}': v for batch_idx, v in x}"), "beyond max_keys"),
        ],
        [reporting("f'layer_{layer}', loss=x"), reporting("'step', loss=x"), reporting("'a', loss=x, step_size=step")],
    ),
    "computed-key": (
        [(reporting("f'layer_{layer}', loss=x"), "computed from 'layer'"), (reporting("**{f'{k}/loss': x}"), "'k'")],
        [reporting("task, loss=x"), reporting("f'fixed', loss=x"), reporting("f'at_{step}', loss=x")],
    ),
    "needless-conversion": (
        [
            (reporting('"a", loss=x.item()'), ".item() is not needed"),
            (reporting('"a", loss=x.mean().detach()'), "a report keeps only the numbers of a tensor."),
            (reporting('"a", loss=weighted(x.item(), n)'), "makes the host wait"),
        ],
        [reporting('"a", loss=x.mean()'), reporting('"a", n=int(x.sum())'), "y = x.item()\n" + reporting()],
    ),
    "plain-trainer": (
        [
            (in_class(FLAG + GUARDED).replace("HfMultiTaskTrainer", "Trainer") + PLAIN, "import HfMultiTaskTrainer"),
            (REPORTS + "import transformers as t\nt.Trainer(m)", "seems to train with Trainer, which ignores them"),
            (
                REPORTS + USES + "from trl import SFTTrainer\nSFTTrainer(model)",
                "class MultiTaskSFTTrainer(MultiTaskTrainerMixin, SFTTrainer)",
            ),
            (
                REPORTS + PLAIN + "class Mine(Trainer): pass\nMine(model)",
                "class MultiTaskMine(MultiTaskTrainerMixin, Mine)",
            ),
        ],
        [
            reporting() + PLAIN,
            PLAIN + "Trainer(model)",
            REPORTS + "from my_lib import MyTrainer\nMyTrainer(model)",
            PLAIN + REGISTRY + "report_metrics(x=x)\nwith MetricRegistry().activate():\n    Trainer(model)",
            REPORTS + MIXIN + "class T(MultiTaskTrainerMixin, SFTTrainer): pass\nT(model)",
        ],
    ),
    "mixin-order": (
        [
            (MIXIN + "class T(Trainer, MultiTaskTrainerMixin): pass", "class T(MultiTaskTrainerMixin, Trainer)"),
            (
                MIXIN + "class Mine(SFTTrainer): pass\nclass T(Mine, MultiTaskTrainerMixin): pass",
                "T derives from Mine before MultiTaskTrainerMixin",
            ),
        ],
        [
            MIXIN + "class T(MultiTaskTrainerMixin, Trainer): pass",
            MIXIN + "class InOrder: pass\nclass T(InOrder, MultiTaskTrainerMixin, Trainer): pass",
            MIXIN + "class T(Trainer): pass",
        ],
    ),
    "predecessor": (
        [
            ("from hf_mtask_trainer import HfMultiTaskTrainer", "from mtask_sinks import HfMultiTaskTrainer"),
            ("import hf_mtask_trainer", "transformers 5.2 or later"),
        ],
        ["from mtask_sinks import HfMultiTaskTrainer", "from .hf_mtask_trainer import x", "hf_mtask_trainer = 1"],
    ),
    "unknown-sink": (
        [
            ("TrainingArguments(out, report_to='tensorbord')", "Did you mean 'tensorboard'?"),
            ("args = {'report_to': ['mlflow', 'mine']}", "names 'mine', which is no sink"),
        ],
        [
            "TrainingArguments(out, report_to=['tensorboard', 'mlflow'])",
            "TrainingArguments(out, report_to='all')",
            "TrainingArguments(out, report_to='none')",
            "TrainingArguments(out, report_to=names)",
            "TrainingArguments(out, run_name='tensorbord')",
        ],
    ),
    "missing-sink": (
        [("TrainingArguments(out, report_to='comet_ml,tensorboard')", "pip install comet-ml")],
        ["TrainingArguments(out, report_to='tensorboard')"],
    ),
    "no-sink": (
        [
            (reporting() + "TrainingArguments(out, report_to='none')", "report_to='tensorboard'"),
            (reporting() + "TrainingArguments(out, report_to=[])", "mtask-sinks replay"),
        ],
        [
            reporting(more=", sinks=[PrintSink()]") + "TrainingArguments(out, report_to='none')",
            reporting() + "TrainingArguments(out, report_to=args.report_to)",
            reporting() + "TrainingArguments(out)",
            PLAIN + "TrainingArguments(out, report_to='none')",
        ],
    ),
    "never-logs": (
        [
            ("TrainingArguments(out, logging_strategy='no')", "logged only once, at the end"),
            ("TrainingArguments(out, logging_strategy=IntervalStrategy.NO)", "logging_strategy is 'no'"),
            ("TrainingArguments(out, logging_steps=500, max_steps=100)", "Choose logging_steps of 100 or less"),
        ],
        [
            "TrainingArguments(out, logging_strategy='steps', logging_steps=100, max_steps=100)",
            "TrainingArguments(out, logging_steps=500, max_steps=-1)",
            "TrainingArguments(out, save_strategy='no', eval_strategy='no')",
            "TrainingArguments(out, logging_strategy='epoch', logging_steps=500, max_steps=100)",
        ],
    ),
}  # fmt: skip
