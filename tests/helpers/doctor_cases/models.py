"""Scripts for the checks of the modules that report."""

from __future__ import annotations

from helpers.doctor_scripts import ASKING, CALLS, FLAG, GUARDED, USES, in_class, overriding

ASKED = "def f(self, x):\n    report = getattr(self, 'report_metrics', None)\n    if report: report('a', loss=x)"

CASES = {
    "nothing-reports": (
        [
            (USES + "HfMultiTaskTrainer(BertModel(config), args)", "the script seems to report nothing"),
            (in_class("supports_report_metrics = False\ndef forward(self, x):\n    return x"), "capture='*loss*'"),
        ],
        [
            USES + "HfMultiTaskTrainer(model, args, capture='*loss*')",
            USES + "HfMultiTaskTrainer(model, args, sink_args=parsed)",
            USES + "options = {'capture': '*loss*'}\nHfMultiTaskTrainer(model, args, **options)",
            USES + "from my_models import Model\nHfMultiTaskTrainer(Model(), args)",
            USES + "from ..models import Model\nHfMultiTaskTrainer(Model(), args)",
            in_class(ASKED),
            USES + "from mtask_sinks import report_metrics\nHfMultiTaskTrainer(m, a, callbacks=[report_metrics])",
            "from mtask_sinks import MetricRegistry\nMetricRegistry()",
        ],
    ),
    "no-flag": (
        [
            (in_class(CALLS), "Model calls self.report_metrics, but neither it nor its base classes set"),
            (in_class(GUARDED), "from mtask_sinks import report_metrics"),
            (in_class(ASKED), "Model calls self.report_metrics, but neither it nor its base classes set"),
            (overriding("def compute_loss(self, model, x):\n    self.report_metrics('a', loss=x)"), "it is a trainer"),
            (in_class("supports_report_metrics = False\n" + GUARDED), "the trainer never gives it that method"),
        ],
        [
            in_class(FLAG + GUARDED),
            in_class(FLAG + ASKED),
            in_class("def f(self, x):\n    getattr(x, 'report_metrics', None)"),
            in_class(GUARDED, before="class Base(nn.Module):\n    supports_report_metrics: bool = True", bases="Base"),
            in_class(GUARDED, before="from my_models import Base", bases="Base"),
            in_class(GUARDED, before="class Part:\n    " + FLAG) + "Model.supports_report_metrics = True",
            in_class("def __init__(self):\n    self.supports_report_metrics = True\n" + GUARDED),
            in_class("def report_metrics(self, *a, **k):\n    pass\n" + GUARDED),
            in_class("def __init__(self):\n    self.report_metrics = print\n" + GUARDED),
            in_class("report_metrics = staticmethod(print)\n" + GUARDED),
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
}  # fmt: skip
