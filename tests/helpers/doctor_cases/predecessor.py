"""Scripts for the checks of code that was written for hf-mtask-trainer."""

from __future__ import annotations

from helpers.doctor_scripts import MIXIN, USES


def in_trainer(line: str) -> str:
    """Make a script with a trainer class that has this line in its ``log``."""
    return (
        f"{USES}class Mine(HfMultiTaskTrainer):\n    def log(self, logs):\n        {line}\n        super().log(logs)\n"
    )


CASES = {
    "predecessor": (
        [
            ("from hf_mtask_trainer import HfMultiTaskTrainer", "from mtask_sinks import HfMultiTaskTrainer"),
            ("import hf_mtask_trainer", "transformers 5.2 or later"),
        ],
        ["from mtask_sinks import HfMultiTaskTrainer", "from .hf_mtask_trainer import x", "hf_mtask_trainer = 1"],
    ),
    "additional-state": (
        [
            (in_trainer("self.additional_state.add_metrics(ce_loss=loss)"), "report_metrics(ce_loss=loss), after:"),
            (in_trainer("self.additional_state.add_metrics(**{f'loss_{i}': x})"), "report_metrics(**{f'loss_{i}': x})"),
            (in_trainer("self.additional_state.add_metrics(**{f'loss_{i}': outputs.losses[i].mean() for i in range(len("
                        "outputs.losses))})"), "report_metrics(...), after: from mtask_sinks import report_metrics"),
            (USES + "trainer = HfMultiTaskTrainer(m)\ntrainer.additional_state.add_metrics(a=1)", "AttributeError"),
        ],
        [
            in_trainer("report_metrics('a', x=x)"),
            in_trainer("self.additional_state = State()\n        self.additional_state.add_metrics(a=1)"),
            in_trainer("self.state.add_metrics(a=1)"),
            in_trainer("self.additional_state.update(a=1)"),
        ],
    ),
    "copied-log": (
        [
            (in_trainer("more = self.additional_state.pop_metrics(gather_func=gather)"), "Remove this log"),
            (in_trainer("more = self.additional_state.pop_metrics() if hasattr(self, 'additional_state') else {}"),
             "call super().log(logs) in it"),
        ],
        [
            in_trainer("self.additional_state = State()\n        self.additional_state.pop_metrics()"),
            in_trainer("self.pop_metrics()"),
        ],
    ),
    "replaced-bases": (
        [
            ("from mtask_sinks import HfMultiTaskTrainer\nfrom trl import SFTTrainer\n"
             "SFTTrainer.__bases__ = (HfMultiTaskTrainer,)", "class MultiTaskSFTTrainer(MultiTaskTrainerMixin, SFT"),
            ("from hf_mtask_trainer import HfMultiTaskTrainer\nimport trl\n"
             "trl.DPOTrainer.__bases__ = (HfMultiTaskTrainer,)", "MultiTaskDPOTrainer(MultiTaskTrainerMixin, trl.DPO"),
            (MIXIN + "SFTTrainer.__bases__ += (MultiTaskTrainerMixin,)", "the bases of SFTTrainer are replaced"),
        ],
        [
            MIXIN + "class T(MultiTaskTrainerMixin, SFTTrainer): pass",
            MIXIN + "assert SFTTrainer.__bases__ == (MultiTaskTrainerMixin,)",
            "from transformers import Trainer\nfrom other import Mine\nTrainer.__bases__ = (Mine,)",
        ],
    ),
}  # fmt: skip
