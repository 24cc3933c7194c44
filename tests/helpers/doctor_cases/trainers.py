"""Scripts for the checks of the trainer."""

from __future__ import annotations

from textwrap import indent

from helpers.doctor_scripts import (
    BASE,
    FLAG,
    GUARDED,
    MIXIN,
    PLAIN,
    REGISTRY,
    REPORTS,
    USES,
    in_class,
    overriding,
    reporting,
)

SILENCED = "def log(self, logs, *args):\n    self.state.log_history.append(logs)"
COPIED = """
def log(self, logs, start_time=None):
    self.state.log_history.append({**logs, "step": self.state.global_step})
    self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)
"""

CASES = {
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
    "log-without-super": (
        [
            (overriding(SILENCED), "Mine.log calls neither super().log(logs) nor the callbacks' on_log"),
            (overriding(SILENCED, "MultiTaskTrainerMixin, Trainer"), "Call super().log(logs) in it."),
            (overriding("pass", "Silenced, HfMultiTaskTrainer", before=f"class Silenced:\n{indent(SILENCED, '    ')}"),
             "Silenced.log calls"),
            (overriding("def log(self, logs):\n    wandb.log(logs)\n    self.log_own(logs)\n"
                        "def log_own(self, logs):\n    print(logs)"), "Mine.log calls"),
            (overriding("def log(self, logs):\n    super().log(logs)", "Silenced, HfMultiTaskTrainer",
                        before=f"class Silenced:\n{indent(SILENCED, '    ')}"), "Silenced.log calls"),
        ],
        [
            overriding("def log(self, logs, *args):\n    super().log({**logs, 'x': 1}, *args)"),
            overriding("def log(self, logs):\n    super(Mine, self).log(logs)"),
            overriding("def log(self, logs):\n    Trainer.log(self, logs)"),
            overriding("def log(self, logs):\n    HfMultiTaskTrainer.log(self, logs)"),
            overriding(COPIED),
            overriding("def log(self, logs):\n    self.tell(logs)\n" + COPIED.replace("def log", "def tell")),
            overriding("def log(self, logs):\n    self.callback_handler.call_event('on_log', *self.all, logs=logs)"),
            # With the mixin in front, its own log is called first.
            overriding("pass", "MultiTaskTrainerMixin, Base", before=f"{BASE}{indent(SILENCED, '    ')}"),
            overriding(SILENCED, "Trainer"),
            overriding("def forward(self):\n    pass\n" + SILENCED, "nn.Module"),
        ],
    ),
}  # fmt: skip
