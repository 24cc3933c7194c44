"""Runs one rank of a real DDP job that measures task health, and writes the result to one file per rank.

torchrun --nproc-per-node 2 tests/helpers/health_job.py OUTPUT_DIR
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import torch.distributed as dist
from transformers.trainer_utils import TrainOutput

from helpers.many_tasks import (
    ManyTasks,
    OrderedTrainer,
    Tokens,
    TokenTrainer,
    batch,
    by_hand,
    cosine,
    items,
    make_trainer,
    rows_of,
)
from mtask_sinks import Alert, TaskHealth, report_metrics


class OnOneRank(ManyTasks):
    """The second rank has no task ``b`` in the third step, and reports an alarming value then."""

    batches = 0

    def losses(self, x: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        self.batches += 1
        found = super().losses(x, targets)
        if dist.get_rank() == 1 and self.batches == 3:
            found["b"] = (found["b"] * torch.zeros(0)).mean()
        return found

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(self.weights[task] * loss.nan_to_num() for task, loss in losses.items())  # type: ignore[return-value]

    def report(self, losses: dict[str, torch.Tensor]) -> None:
        for task, loss in losses.items():
            self.report_metrics(task, loss=None if loss.isnan() else loss)
        if dist.get_rank() == 1:
            report_metrics("alarm", level=float(self.batches))


class OneTaskEach(ManyTasks):
    """Each rank reports a task of its own. Only the first one, ``a``, depends on the second block."""

    def losses(self, x: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        early = self.blocks[0](self.embedding(x))
        outputs = {"a": self.heads["a"](self.blocks[1](early)), "b": self.heads["b"](early)}
        return {task: (output**2).mean() for task, output in outputs.items()}

    def report(self, losses: dict[str, torch.Tensor]) -> None:
        task = "ab"[dist.get_rank()]
        self.report_metrics(task, loss=losses[task])


class OwnLoop(OrderedTrainer):
    """The training loop is the user's own, and tells no callback when a step ends."""

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self.create_optimizer_and_scheduler(self.args.max_steps)
        self.model_wrapped, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.current_gradient_accumulation_steps = 1
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        for _, inputs in zip(range(self.args.max_steps), self.get_train_dataloader(), strict=False):
            self.training_step(self.model_wrapped, inputs)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.state.global_step += 1
            self.control.should_log = True
            self.log({"loss": 0.0})
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, 0.0, {})


def trained(
    out: Path, model: ManyTasks, health: TaskHealth | None, steps: int, resume: bool = False, **settings: Any
) -> Any:
    trainer = make_trainer(
        model,
        out / "training",
        health,
        steps=steps,
        per_device_train_batch_size=2,
        dataloader_drop_last=True,
        **settings,
    )
    trainer.train(resume_from_checkpoint=str(out / "training" / "checkpoint-2") if resume else None)
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    for tensor in trainer.model.state_dict().values():
        digest.update(tensor.detach().numpy().tobytes())
    return trainer, digest.hexdigest()


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, result = dist.get_rank(), dict[str, Any]()
    hashes = {}
    for name, health in (("without", None), ("last", TaskHealth(every=1)), ("all", TaskHealth(shared="*", every=2))):
        _, hashes[name] = trained(out, ManyTasks(dropout=0.1), health, 10, learning_rate=1e-2)
    result["hashes"] = hashes
    trainer, _ = trained(out, OnOneRank(), TaskHealth(every=1), 3, learning_rate=0.0)
    result["rows"] = list(rows_of(trainer))
    model, inputs = ManyTasks(), batch(items(512), 4 + 2 * rank, 2)  # this rank's part of the second batch
    gradients = by_hand(model, inputs, lambda name: "blocks.1." in name, lambda m: m.losses(**inputs))
    result["hand"] = {"a": float(gradients["a"].norm()), "cosine": cosine(gradients["a"], gradients["b"])}
    apart, _ = trained(out, OneTaskEach(), TaskHealth(every=1), 3, learning_rate=0.0)
    result["apart"], result["choice"] = list(rows_of(apart)), apart._session.oversight.state_dict()["health"]
    model = OneTaskEach()
    gradients = by_hand(model, inputs, lambda name: "blocks.0." in name, lambda m: m.losses(**inputs))
    result["apart by hand"] = {task: float(gradient.norm()) for task, gradient in gradients.items()}
    own, _ = trained(out, ManyTasks(), TaskHealth(every=1), 3, learning_rate=0.0, trainer_class=OwnLoop)
    result["own loop"] = [row.get("a/grad_norm") for row in rows_of(own)]
    # transformers 4 cannot load an optimizer on several ranks without GPUs.
    saving = {"learning_rate": 0.0, "save_strategy": "steps", "save_steps": 2, "save_only_model": True}
    whole, _ = trained(out, ManyTasks(), TaskHealth(every=2), 4, **saving)
    again, _ = trained(out, ManyTasks(), TaskHealth(every=2), 4, resume=True, **saving)
    result["resumed"] = [[*rows_of(each)] for each in (whole, again)]
    trained(out, ManyTasks(), TaskHealth(every=3), 4, learning_rate=0.0)  # has one step to measure
    if hasattr(trainer.args, "ddp_static_graph"):
        static, hashes["static"] = trained(
            out, ManyTasks(dropout=0.1), TaskHealth(every=1), 10, learning_rate=1e-2, ddp_static_graph=True
        )
        result["static"] = [name for row in rows_of(static) for name in row if "health/" in name]
    tokens, _ = trained(
        out,
        Tokens("means"),
        TaskHealth(every=1),
        2,
        learning_rate=0.0,
        gradient_accumulation_steps=2,
        trainer_class=TokenTrainer,
    )
    result["tokens"] = list(rows_of(tokens))
    result["stopped"] = stopped(out)
    (out / f"result-{rank}.json").write_text(json.dumps(result))


def stopped(out: Path) -> dict[str, Any]:
    alerts = [Alert("alarm/level", above=2.5, action="stop")]
    trainer = make_trainer(
        OnOneRank(), out / "stopped", None, steps=20, trainer_kwargs={"alerts": alerts}, per_device_train_batch_size=2
    )
    output = trainer.train()
    return {"step": trainer.state.global_step, "metrics": output.metrics.get("stopped_by")}


if __name__ == "__main__":
    main()
