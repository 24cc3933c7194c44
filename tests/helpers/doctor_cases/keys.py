"""Scripts for the checks of names in calls of ``report_metrics``."""

from __future__ import annotations

from helpers.doctor_scripts import REGISTRY, reporting

CASES = {
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
            (reporting("**{'größe m': x}"), "Call it 'größe_m'"),
            (reporting("**{'a. Try b': x}"), "'a. Try b' is no valid key: allowed are"),
            (reporting(f"**{{'{'x' * 300}': x}}"), "it has 300 bytes, 250 are allowed. Shorten it."),
            (reporting("'..', loss=x"), "separated by '/'. Choose another name."),
            (reporting("'a b' if x else 'ab', loss=x"), "Call it 'a_b'."),
        ],
        [reporting('"ner", **{"f1.猫": x, "точность": x}'), reporting('"mlm/top-1.acc", x=x'),
         reporting('"a", größe=x'), reporting("**{name: x, 'top-1': x}")],
    ),
    "phase-as-task": (
        [
            (reporting('"eval", loss=x'), "the task is called 'eval'"),
            (reporting('"train", loss=x'), "'train/…' in training and 'eval_train/…' in an evaluation"),
            (reporting('"train" if self.training else "eval", loss=x'), "Name the task by what it computes"),
            (reporting("**{'test/acc': x}"), "the task is called 'test'"),
        ],
        [
            reporting('"a", train=x, eval=x'),
            reporting('"training", loss=x'),
            reporting('"a", **{"eval/acc": x}'),
            "import ray\nray.report_metrics('train', loss=x)",
        ],
    ),
    "key-per-step": (
        [
            (reporting("f'step_{step}', loss=x"), "computed from 'step'"),
            (reporting("'a', **{f'loss_{self.state.global_step}': x}"), "computed from 'global_step'"),
            (reporting("**{f'at_{batch_idx}': v for batch_idx, v in x}"), "beyond max_keys"),
        ],
        [
            reporting("f'layer_{layer}', loss=x"),
            reporting("f'layer_{layer_idx}', loss=x"),
            reporting("**{f'load.{expert_id}': v for expert_id, v in x}"),
            reporting("'step', loss=x"),
            reporting("'a', loss=x, step_size=step"),
        ],
    ),
    "computed-key": (
        [(reporting("f'layer_{layer}', loss=x"), "computed from 'layer'"), (reporting("**{f'{k}/loss': x}"), "'k'")],
        [reporting("task, loss=x"), reporting("f'fixed', loss=x"), reporting("f'at_{step}', loss=x")],
    ),
}  # fmt: skip
