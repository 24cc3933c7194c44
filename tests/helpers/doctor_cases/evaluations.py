"""Scripts for the checks of a trainer's evaluations."""

from __future__ import annotations

from textwrap import indent

from helpers.doctor_scripts import BASE, TRAINERS, overriding, reporting


def with_loss(forward: str = "self, x", more: str = "", arguments: str = "eval_dataset=rows", body: str = "") -> str:
    """Make a script in which only ``compute_loss`` reports."""
    return f"""{TRAINERS}
class Model(nn.Module):
    def forward({forward}):
        return x
class Mine(HfMultiTaskTrainer):
    def compute_loss(self, model, inputs, **kwargs):
        loss = self.loss_of(model(**inputs))
        return loss
    def loss_of(self, outputs):
        report_metrics("a", loss=outputs)
        return outputs
    {body}
{more}
model = Model()
Mine(model, args, {arguments})
"""


OWN = """
def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
    for batch in self.get_eval_dataloader():
        self.model(**batch)
"""
OWN_LOOP = """
def evaluation_loop(self, dataloader, *args, **kwargs):
    return [self.prediction_step(self.model, batch, True) for batch in dataloader]
"""
IN_PHASE = """
def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
    with self.report_phase(metric_key_prefix) as metrics:
        self.model(**self.batch)
    return metrics
"""
CASES = {
    "own-evaluation": (
        [
            (overriding(OWN), "Mine.evaluate calls neither super().evaluate(...) nor report_phase"),
            (overriding(OWN), "with self.report_phase(metric_key_prefix): ..."),
            (overriding(OWN_LOOP), "Mine.evaluation_loop calls neither"),
            (overriding("pass", "MultiTaskTrainerMixin, Base", before=f"{BASE}{indent(OWN, '    ')}"), "Base.evaluate"),
            (overriding("def evaluate(self, *args):\n    return score_model(self)",
                        before="def score_model(trainer):\n    return trainer.model(1)"), "Mine.evaluate"),
            (overriding("def evaluate(self, *args):\n    return self.evaluator(self.model, 'out')"), "Mine.evaluate"),
            (overriding("def evaluate(self, *args):\n    return f(self.model.generate(**self.batch))"), "report_phase"),
            (with_loss(body="def evaluate(self):\n        return self.compute_loss(self.model, 1)"), "Mine.evaluate"),
        ],
        [
            overriding(IN_PHASE),
            overriding("def evaluate(self, *args, **kwargs):\n    self.model.eval()\n"
                       "    return super().evaluate(*args, **kwargs)"),
            # As in the examples of transformers for question answering.
            overriding("def evaluate(self, *args):\n    loop = self.evaluation_loop\n"
                       "    return loop(self.get_eval_dataloader(), model=self.model)"),
            overriding("def evaluate(self, rows):\n    return self.predict(rows, self.model)"),
            overriding("def evaluate(self, rows):\n    return self.score(rows)\ndef score(self, rows):\n"
                       "    with self.report_phase('eval'):\n        self.model(rows)"),
            overriding("def evaluate(self, *args):\n    return read_results('results.json')"),
            overriding("def evaluate(self, rows):\n    return len(self.tokenizer.encode(rows, self.model.config))"),
            # It prepares the model, but does not run it.
            overriding("def evaluation_loop(self, *args):\n    self.accelerator.prepare(self.model.eval())\n"
                       "    return self.compute_metrics(None)"),
            # With the mixin in front, its own loop is around this one.
            overriding("pass", "MultiTaskTrainerMixin, Base", before=f"{BASE}{indent(OWN_LOOP, '    ')}"),
            overriding(OWN, "Trainer"),
            # Only compute_loss reports, and this evaluation does not call it.
            with_loss(body="def evaluate(self, **kwargs):\n        return self.model(1)"),
        ],
    ),
    "no-label-names": (
        [
            (with_loss(), "TrainingArguments(label_names=[...])"),
            (with_loss(), "Model.forward takes none: the evaluation has no task metrics."),
            (with_loss(arguments="eval_dataset={'books': rows}"), "Mine.compute_loss reports"),
        ],
        [
            with_loss(more="args = TrainingArguments(out, label_names=['x'])"),
            with_loss(forward="self, x, labels=None"),
            with_loss(forward="self, x, *, start_positions=None"),
            with_loss(forward="self, x, return_loss=True"),
            with_loss(arguments=""),
            with_loss(arguments="eval_dataset=None"),
            with_loss(body="def prediction_step(self, *args):\n        return self.compute_loss(*args)"),
            with_loss(body=OWN.strip().replace("\n", "\n    ")),
            with_loss(more="class Part(nn.Module):\n    def forward(self, x):\n        report_metrics('b', x=x)"),
            with_loss(more="Model = load_model()").replace("class Model(nn.Module)", "class Other(nn.Module)"),
            reporting(more=", eval_dataset=rows"),
        ],
    ),
}  # fmt: skip
