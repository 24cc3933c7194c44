"""Tests TRL's trainers with the mixin: task metrics equal those of NumPy, and TRL's own metrics do not change."""

from __future__ import annotations

import copy
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from mtask_sinks import MultiTaskTrainerMixin, read_journal, report_metrics

pytestmark = pytest.mark.skipif(find_spec("trl") is None, reason="needs trl")

#: Method → eval_strategy. With "no", TRL still has metrics to log at the end of the training.
METHODS = {"sft": "steps", "dpo": "no", "reward": "steps"}
TASKS = {"sft": ("title", "continue"), "dpo": ("calm", "brief"), "reward": ("calm", "brief")}
OF_TRL = {
    "sft": {"entropy", "mean_token_accuracy", "num_tokens"},
    "dpo": {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"},
    "reward": {"min_reward", "mean_reward", "max_reward", "accuracy", "margin"},
}
CLOCK = re.compile(r"runtime|per_second|preparation_time|compilation_time")
STEPS = {
    "max_steps": 7, "logging_steps": 2, "gradient_accumulation_steps": 2, "eval_steps": 4,
    "per_device_train_batch_size": 4, "report_to": "none",
}  # fmt: skip


class Recorder:
    """Records the raw outputs of every forward of the trained model, in order."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.train: list[dict[str, np.ndarray]] = []
        self.eval: list[dict[str, np.ndarray]] = []
        model.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
        raw = {"first": inputs["input_ids"][:, 0]}
        for name in ("log_probs", "label_mask", "is_top1", "logits"):
            if getattr(outputs, name, None) is not None:
                raw[name] = getattr(outputs, name).detach()
        values = {name: value.numpy().astype(np.float64) for name, value in raw.items()}
        (self.train if model.training else self.eval).append(values)


def expected(method: str, token: int, batches: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Compute the metrics of one task over these batches with NumPy."""
    pieces: dict[str, list[float]] = {}

    def add(**values: np.ndarray) -> None:
        for name, value in values.items():
            pieces.setdefault(name, []).extend(value.tolist())

    for batch in batches:
        rows = batch["first"] == token
        if method == "sft":
            mask = batch["label_mask"][rows] == 1
            add(loss=-batch["log_probs"][rows][mask], accuracy=batch["is_top1"][rows][mask])
        elif method == "dpo":
            chosen, rejected = np.split(batch["log_probs"][rows].sum(1), 2)
            add(chosen_logp=chosen, rejected_logp=rejected, prefers_chosen=chosen > rejected)
        else:
            chosen, rejected = np.split(batch["logits"][rows][:, 0], 2)
            add(loss=np.log1p(np.exp(rejected - chosen)), accuracy=chosen > rejected)
    metrics = {name: float(np.mean(values)) for name, values in pieces.items() if values}
    if method == "sft" and pieces.get("loss"):
        metrics["n_tokens"] = len(pieces["loss"])
    return metrics


@pytest.fixture(scope="module", params=METHODS)
def runs(request, example, tmp_path_factory) -> dict[str, Any]:
    """Run the same training with the mixin and without it."""
    method = request.param
    found: dict[str, Any] = {"method": method, "special": example.SPECIAL}
    plain = {"sft": example.SFTTrainer, "dpo": example.DPOTrainer, "reward": example.RewardTrainer}[method]
    for name, cls in (("ours", None), ("theirs", plain)):
        output_dir = str(tmp_path_factory.mktemp(name))
        trainer = example.make_trainer(method, output_dir, cls, **STEPS, eval_strategy=METHODS[method])
        recorder = Recorder(trainer.model)
        trainer.train()
        in_training = len(recorder.eval)
        evaluated = trainer.evaluate()
        found[name] = {
            "history": trainer.state.log_history, "evaluated": evaluated, "recorder": recorder,
            "snapshots": [each for run in read_journal(output_dir) for each in run.snapshots] if cls is None else [],
            "last": recorder.eval[in_training:], "weights": trainer.model.state_dict(),
        }  # fmt: skip
    return found


def is_ours(runs: dict[str, Any], name: str) -> bool:
    tasks = tuple(f"{task}/" for task in TASKS[runs["method"]])
    return name.removeprefix("eval_").removeprefix("overall_").startswith(tasks)


def of_tasks(runs: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if is_ours(runs, name)}


def computed(runs: dict[str, Any], batches: list[dict[str, np.ndarray]], prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}{task}/{name}": pytest.approx(value, rel=1e-5, abs=1e-6)
        for task in TASKS[runs["method"]]
        for name, value in expected(runs["method"], runs["special"].index(f"<{task}>"), batches).items()
    }


def test_every_window_of_the_training_is_what_numpy_makes_of_the_raw_outputs(runs) -> None:
    batches = runs["ours"]["recorder"].train
    rows = [row for row in runs["ours"]["history"] if "eval_loss" not in row and "train_runtime" not in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row, window in zip(rows, (batches[0:4], batches[4:8], batches[8:12]), strict=True):
        assert of_tasks(runs, row) == computed(runs, window)
    (partial,) = [each for each in runs["ours"]["snapshots"] if each.is_partial]
    assert dict(partial.metrics) == computed(runs, batches[12:14])
    (summary,) = [row for row in runs["ours"]["history"] if "train_runtime" in row]
    assert of_tasks(runs, summary) == computed(runs, batches[0:14], "overall_")


def test_what_evaluate_returns_is_what_numpy_makes_of_the_raw_outputs(runs) -> None:
    metrics = of_tasks(runs, runs["ours"]["evaluated"])
    assert {name.split("/")[0] for name in metrics} == {f"eval_{task}" for task in TASKS[runs["method"]]}
    assert metrics == computed(runs, runs["ours"]["last"], "eval_")
    assert of_tasks(runs, runs["ours"]["history"][-1]) == metrics


def test_trls_own_metrics_are_there_and_stand_where_they_stand_without_the_mixin(runs) -> None:
    def theirs(row: dict[str, Any]) -> dict[str, Any]:
        return {name: None if CLOCK.search(name) else value for name, value in row.items() if not is_ours(runs, name)}

    history = [theirs(row) for row in runs["ours"]["history"]]
    assert history == [theirs(row) for row in runs["theirs"]["history"]]
    assert OF_TRL[runs["method"]] <= set(history[0])
    assert {f"eval_{name}" for name in OF_TRL[runs["method"]]} <= set(history[-1])
    assert theirs(runs["ours"]["evaluated"]) == theirs(runs["theirs"]["evaluated"])


def test_a_phase_leaves_trls_metrics_to_the_row_of_the_training(runs, example, tmp_path) -> None:
    class Probe(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            with trainer.report_phase("probe"):
                report_metrics("probed", step=state.global_step)

    method = runs["method"]
    trainer = example.make_trainer(method, str(tmp_path), **STEPS, eval_strategy=METHODS[method])
    trainer.add_callback(Probe())
    trainer.train()
    probed = [row for row in trainer.state.log_history if "probe_probed/step" in row]
    assert probed == [{"probe_probed/step": row["step"], "epoch": row["epoch"], "step": row["step"]} for row in probed]
    assert len(probed) == STEPS["max_steps"]
    history = [row for row in trainer.state.log_history if row not in probed]
    for row, unprobed in zip(history, runs["ours"]["history"], strict=False):
        assert {name: row[name] for name in row if not CLOCK.search(name)} == {
            name: value for name, value in unprobed.items() if not CLOCK.search(name)
        }


def test_the_weights_are_those_of_a_training_without_the_mixin(runs) -> None:
    for name, value in runs["theirs"]["weights"].items():
        assert torch.equal(runs["ours"]["weights"][name], value), name


@pytest.mark.parametrize("has_adapter_already", [False, True])
def test_a_model_with_peft_does_not_report_as_its_own_reference(example, tmp_path, has_adapter_already) -> None:
    peft = pytest.importorskip("peft")
    lora = {"peft_config": peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, task_type="CAUSAL_LM")}

    class Adapted(example.MultiTaskDPOTrainer):
        def __init__(self, model: Any, ref_model: Any, **kwargs: Any) -> None:
            if has_adapter_already:
                super().__init__(peft.get_peft_model(model, **lora), **kwargs)
            else:
                super().__init__(model, **lora, **kwargs)

    trainer = example.make_trainer("dpo", str(tmp_path), Adapted, **STEPS, eval_strategy="no", learning_rate=0.1)
    recorder = Recorder(trainer.model.base_model.model)
    trainer.train()
    batches = recorder.train[::2]  # TRL runs the reference after each forward
    assert len(batches) == 14
    runs = {"method": "dpo", "special": example.SPECIAL}
    assert of_tasks(runs, trainer.state.log_history[0]) == computed(runs, batches[0:4])
    assert of_tasks(runs, trainer.state.log_history[-1]) == computed(runs, batches, "overall_")


def test_the_mismatched_pairs_of_kto_count_only_for_their_own_phase(example, tmp_path) -> None:
    from trl import KTOConfig, KTOTrainer

    document = Path(__file__).with_name("README.md").read_text()
    (code,) = re.findall(r"```python\n(class MultiTaskKTOTrainer.*?)```", document, re.DOTALL)
    names = {"MultiTaskTrainerMixin": MultiTaskTrainerMixin, "KTOTrainer": KTOTrainer}
    exec(code, names)
    means: list[float] = []

    def report(model: Any, args: Any, inputs: Any, outputs: Any) -> None:
        means.append(outputs.log_probs.mean().item())
        report_metrics("kto", logp=outputs.log_probs.mean())

    rows = example.preferences()[:40]
    data = [{"prompt": row["prompt"], "completion": row["chosen"], "label": at % 2 == 0} for at, row in enumerate(rows)]
    config = example.LlamaConfig(vocab_size=example.VOCABULARY, **example.SIZE, pad_token_id=0, eos_token_id=1)
    model = example.LlamaForCausalLM(config)
    args = KTOConfig(
        str(tmp_path), max_steps=2, logging_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        bf16=False, max_length=64, save_strategy="no",
    )  # fmt: skip
    trainer = names["MultiTaskKTOTrainer"](
        model,
        ref_model=copy.deepcopy(model),
        args=args,
        train_dataset=example.Dataset.from_list(data),
        processing_class=example.learn_tokens(),
    )
    model.register_forward_hook(report, with_kwargs=True)
    trainer.train()
    assert len(means) == 4  # TRL runs the pairs that do not belong together first
    found = {name: value for row in trainer.state.log_history for name, value in row.items() if name.endswith("logp")}
    assert found["kl_kto/logp"] == pytest.approx((means[0] + means[2]) / 2)
    assert found["kto/logp"] == found["overall_kto/logp"] == pytest.approx((means[1] + means[3]) / 2)


def test_the_example_learns_both_tasks_and_writes_them_to_tensorboard(example, tmp_path) -> None:
    trainer = example.main(["--method", "reward", "--output_dir", str(tmp_path)])
    first, last = trainer.state.log_history[0], trainer.state.log_history[-2]
    for task in TASKS["reward"]:
        assert last[f"eval_{task}/loss"] < 0.05 < 0.1 < first[f"{task}/loss"]

    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    ((run, tags),) = events.Runs().items()
    assert {"calm/train/loss", "brief/train/loss", "calm/eval/accuracy", "train/margin"} <= set(tags["scalars"])
    written = [event.value for event in events.Scalars(run, "calm/train/loss")]
    logged = [row["calm/loss"] for row in trainer.state.log_history if "calm/loss" in row]
    assert written == pytest.approx(logged, rel=1e-6)
