"""Runs one rank of a real job: the scenarios that the command line names. Writes one file per scenario and rank.

torchrun --nproc-per-node 2 tests/helpers/rank_job.py OUTPUT_DIR scenario...
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.errors import ConflictError

REDUCERS = {f"*/{name}": name for name in ("mean", "sum", "count", "min", "max", "first", "last", "std", "median")}


def reports(rank: int, step: int, batch: int):
    """Yield what a rank reports in a micro-batch. Each task is reported on different ranks at different times."""
    value = float(np.sin(37 * rank + 11 * step + batch))
    yield "all", value, 1.0 + rank
    if (rank + step) % 2:
        yield "some", 100 + value, 1.0
    if rank == 0 and step >= 2:
        yield "late", 1e6 + value, 2.0


@contextmanager
def counted():
    """Count the collectives of torch.distributed inside the block."""
    counts: Counter[str] = Counter()
    names = ["all_reduce", "all_gather", "all_gather_object", "broadcast", "barrier", "all_gather_into_tensor"]
    real = {name: getattr(dist, name) for name in names}

    def counting(name):
        def call(*args, **kwargs):
            counts[name] += 1
            return real[name](*args, **kwargs)

        return call

    for name in names:
        setattr(dist, name, counting(name))
    try:
        yield counts
    finally:
        for name in names:
            setattr(dist, name, real[name])


def registry(out: Path) -> object:
    """Reduce four windows of such reports, and count the collectives of each."""
    rank, rows = dist.get_rank(), []
    metrics = MetricRegistry(REDUCERS, spread="all/mean")
    for step in range(4):
        with counted() as counts:
            for batch in range(3):
                for task, value, weight in reports(rank, step, batch):
                    names = [pattern[2:] for pattern in REDUCERS]
                    metrics.report_metrics(task, **{name: weighted(value, weight) for name in names})
                metrics.tick()
            before = dict(counts)
            snapshot = metrics.snapshot(step)
        rows.append({"metrics": dict(snapshot.metrics), "collectives": dict(counts), "before": before})
    return rows


def conflict(out: Path) -> object:
    """The ranks have different rules. Returns the error, and a sum that shows that the group still works."""
    metrics = MetricRegistry({"a/x": "sum" if dist.get_rank() else "mean"})
    metrics.report_metrics("a", x=1.0)
    try:
        metrics.snapshot(1)
    except ConflictError as error:
        total = torch.ones(1)
        dist.all_reduce(total)
        return [str(error), total.item()]
    return None


def replicas(out: Path) -> object:
    """Ranks 2k and 2k + 1 hold the same data, as with tensor parallelism, so reduce over one rank of each pair."""
    rank, size = dist.get_rank(), dist.get_world_size()
    groups = [dist.new_group(list(range(first, size, 2))) for first in (0, 1)]
    metrics = MetricRegistry({"*": "sum"}, process_group=groups[rank % 2])
    metrics.report_metrics("a", x=float(rank // 2 + 1))
    return dict(metrics.snapshot(1).metrics)


def fsdp(out: Path) -> object:
    """Modules in FSDP units report. Each rank has its part of the batch."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from mtask_sinks import report_metrics

    class Block(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            report_metrics("block", out=y, n=len(x))
            return y

    torch.manual_seed(0)
    model = nn.Sequential(Block(4, 4), Block(4, 4))
    whole = [parameter.detach().clone() for parameter in model.parameters()]
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    metrics = MetricRegistry({"*/n": "sum"})
    x = torch.arange(4.0 * (dist.get_rank() + 1)).reshape(-1, 4) / 10
    with metrics.activate():
        model(x).sum().backward()
    snapshot = metrics.snapshot(1)
    return {"metrics": dict(snapshot.metrics), "weights": [tensor.tolist() for tensor in whole]}


def trainer(out: Path) -> object:
    """DDP in the Trainer, with accumulation and an evaluation whose last batch is padded with duplicates."""
    from transformers import TrainerCallback

    from helpers.toy import InOrder, Toy, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer
    from mtask_sinks.sinks import MemorySink

    class Reporting(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=loss, x=x, n=x.numel(), last=loss, spread=loss, p=x)
            if x.max() == 3:
                self.report_metrics("only", three=3.0)

    class Ordered(InOrder, HfMultiTaskTrainer):
        pass

    class LogsOnOneRank(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                trainer.log({"from_rank_0": 1.0})

    sink = MemorySink()
    rules = {"*/n": "sum", "*/last": "last", "*/p": "median"}
    trainer = Ordered(
        Reporting(),
        arguments(
            out / "train",
            gradient_accumulation_steps=2,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=4,
            ddp_backend="gloo",
        ),
        train_dataset=numbers(*range(32)),
        # Global batches of 8: rank 1 has no third batch of its own and gets the first rows again.
        eval_dataset=numbers(*range(100, 118)),
        metrics=MetricRegistry(rules, spread="a/spread"),
        sinks=[sink],
    )
    trainer.add_callback(LogsOnOneRank())
    trainer.train()
    evaluated = trainer.evaluate()
    rows = [{key: value for key, value in row.items() if "runtime" not in key} for row in trainer.state.log_history]
    return {"rows": rows, "evaluated": evaluated, "sent": sorted(sink.series("a/loss"))}


def captures(out: Path) -> object:
    """Each rank has outputs of its own. Returns the patterns that warnings name, and the captured values."""
    from helpers.toy import InOrder, Silent, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer

    class Parts(Silent):
        def forward(self, x):
            loss = (self.weight * x).mean()
            return {"loss": loss, "parts": {f"of_rank_{dist.get_rank()}": loss.detach()}}

    class Ordered(InOrder, HfMultiTaskTrainer):
        pass

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("mtask_sinks.trainer").addHandler(handler)
    found = []
    for capture in (["of_rank_0", "of_rank_1", "of_rank_2"], {"of_rank_0": "zero", "of_rank_1": "one", "of_r": "two"}):
        trainer = Ordered(
            Parts(),
            arguments(out / "captures", ddp_backend="gloo"),
            train_dataset=numbers(1, 2, 3, 4),
            capture=capture,
        )
        trainer.train()
        [row, _] = trainer.state.log_history
        found.append({key: value for key, value in row.items() if "of_rank" in key})
    return {"idle": [text.partition(",")[0] for text in said if "this pattern did nothing" in text], "found": found}


FIRST_ENTRIES = {"strings": ["a", "b"], "true": True, "none": None, "int": 7, "0-d": torch.tensor(3.0), "empty": []}


class Repeating(torch.utils.data.Sampler):
    """Repeats each row of a dataset, or uses only the first rows."""

    def __init__(self, dataset, times=1, only=None) -> None:
        self.order = [row for row in range(len(dataset))[:only] for _ in range(times)]

    def __iter__(self):
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


def padding(out: Path) -> object:
    """Evaluate with a padded last round: with several samplers, first entries of a batch, and ways to share data."""
    from accelerate.data_loader import BatchSampler
    from transformers import Trainer
    from trl.trainer.utils import RepeatSampler

    from helpers.toy import Toy, arguments, numbers
    from mtask_sinks import MultiTaskTrainerMixin

    class TakesLists(Trainer):
        """Accepts batches that are lists of items, as TRL's GRPO makes them."""

        def prediction_step(self, model, inputs, *args, **kwargs):
            batch = inputs if isinstance(inputs, dict) else {"x": torch.stack([item["x"] for item in inputs])}
            return super().prediction_step(model, batch, *args, **kwargs)

    class Reporting(Toy):
        def forward(self, x, **others):
            return super().forward(x)

        def extra(self, x, loss):
            self.report_metrics("a", x=x, n=x.numel(), rows=x)

    class Ordered(MultiTaskTrainerMixin, TakesLists):
        sampler = None

        def _get_eval_sampler(self, dataset):
            return self.sampler(dataset) if self.sampler else super()._get_eval_sampler(dataset)

    class OwnStep(MultiTaskTrainerMixin, Trainer):
        def prediction_step(self, model, inputs, *args, **kwargs):
            with torch.no_grad():
                return model(**self._prepare_inputs(inputs))[0], None, None

    class OwnLoop(MultiTaskTrainerMixin, Trainer):
        def evaluate(self, dataset):
            with self.report_phase("eval") as metrics:
                for batch in self.get_eval_dataloader(dataset):
                    self.prediction_step(self.model, batch, True)
            return metrics

    class PartOfStep(Ordered):
        def prediction_step(self, *args, **kwargs):
            with self.report_phase("part"):
                return super().prediction_step(*args, **kwargs)

    class Uneven(BatchSampler):
        """Makes batches of 4, except the first, which has 2 rows."""

        def __iter__(self):
            yield from ([0, 1], *(list(range(start, start + 4)) for start in range(2, 18, 4)))

    def evaluate(first=..., sampler=None, kind=Ordered, batches=None, **config):
        def collate(items):
            if first == "a list":
                return [{"text": "a", **item} for item in items]
            batch = {"x": torch.stack([item["x"] for item in items])}
            return batch if first is ... else {"first": first, **batch}

        changes = {"per_device_eval_batch_size": 4, "ddp_backend": "gloo", "accelerator_config": config or None}
        settings = arguments(out / "padding", remove_unused_columns=False, prediction_loss_only=True, **changes)
        rules = {"*/n": "sum", "*/rows": lambda values: float(sum(2.0 ** int(value) for value in set(values)))}
        ours = {} if kind is TakesLists else {"metrics": MetricRegistry(rules)}
        trainer = kind(Reporting(), settings, data_collator=collate, **ours)
        trainer.sampler = sampler
        if batches is not None:
            loader = torch.utils.data.DataLoader(numbers(*range(18)), batch_sampler=batches, collate_fn=collate)
            trainer.get_eval_dataloader = lambda *_: trainer.accelerator.prepare(loader)
        metrics = trainer.evaluate(numbers(*range(18)))
        rows = [metrics, *trainer.state.log_history]  # a part of a step has a row of its own
        return {name.replace("_part", ""): value for row in rows for name, value in row.items() if "a/" in name}

    found = {name: evaluate(first) for name, first in FIRST_ENTRIES.items()}
    assert [evaluate(first, kind=TakesLists) for first in FIRST_ENTRIES.values()] == [{}] * len(FIRST_ENTRIES)
    found["own step"] = evaluate(kind=OwnStep)
    found["own loop"] = evaluate(kind=OwnLoop)
    found["part of step"] = evaluate(kind=PartOfStep)
    found["repeats"] = evaluate(sampler=lambda dataset: Repeating(dataset, times=3))
    found["repeats strings"] = evaluate(["a"], sampler=lambda dataset: Repeating(dataset, times=3))
    found["repeats lists"] = evaluate("a list", lambda dataset: RepeatSampler(dataset, 2, shuffle=False))
    found["drops"] = evaluate(sampler=lambda dataset: Repeating(dataset, only=16))
    found["drops all but 3"] = evaluate(sampler=lambda dataset: Repeating(dataset, only=3))
    found["dispatched"] = evaluate(dispatch_batches=True)
    found["split"] = evaluate(split_batches=True)
    found["not evened"] = evaluate(even_batches=False)
    found["uneven"] = evaluate(batches=Uneven(range(18), 4, False))
    found["drop_last"] = evaluate(batches=BatchSampler(range(18), 4, True))
    return found


def evaluations(out: Path) -> object:
    """Evaluate in the last step of a training and after it. The training's last round has rows for rank 0 alone."""
    from helpers.toy import InOrder, Toy, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer

    rank = dist.get_rank()

    class Alternating(Toy):
        """In training, the ranks take turns to report. Row 2 * step + rank is the batch of a rank."""

        def extra(self, x, loss):
            if not self.training or int(x[0]) // 2 % 2 == rank:
                self.report_metrics("a", first=loss, last=loss, n=x.numel(), sum=x)

    class Ordered(InOrder, HfMultiTaskTrainer):
        pass

    class OwnLoader(Ordered):
        def get_eval_dataloader(self, dataset=None):
            sampler = torch.utils.data.DistributedSampler(self.eval_dataset, shuffle=False)
            return torch.utils.data.DataLoader(self.eval_dataset, batch_size=2, sampler=sampler)

    class BrokenOff(Ordered):
        """Looks at one batch before each evaluation, which then reads the same loader."""

        def evaluate(self, *args, **kwargs):
            next(iter(self.get_eval_dataloader()))
            return super().evaluate(*args, **kwargs)

    def rows(kind, train, evaluated, **changes):
        trainer = kind(
            Alternating(),
            arguments(out / "evaluations", ddp_backend="gloo", eval_strategy="steps", **changes),
            train_dataset=numbers(*range(train)),
            eval_dataset=numbers(*range(100, 100 + evaluated)),
            metrics=MetricRegistry({"*/first": "first", "*/last": "last", "*/n": "sum", "*/sum": "sum"}),
        )
        trainer.train()
        trainer.evaluate()
        return [{name: value for name, value in row.items() if "a/" in name} for row in trainer.state.log_history]

    uneven = {"logging_steps": 4, "eval_steps": 4, "accelerator_config": {"even_batches": False}}
    return {
        "uneven": rows(Ordered, 16, 7, **uneven),
        "own loader": rows(OwnLoader, 9, 16, eval_steps=3, per_device_train_batch_size=2),
        "broken off": rows(BrokenOff, 8, 5, eval_steps=2, dataloader_num_workers=1, dataloader_persistent_workers=True),
    }


def resume(out: Path) -> object:
    """One training that is stopped between two log events and resumed, and one that is not."""
    from transformers import TrainerCallback

    from helpers.toy import InOrder, Toy, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer

    # transformers 4 loads the optimizer to "cpu:0", a device that torch does not know.
    torch.serialization.register_package(
        100, lambda storage: None, lambda storage, place: storage if place.startswith("cpu") else None
    )

    class Reporting(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=loss, last=loss, first=loss, std=x, p=x, n=x.numel())

    class Ordered(InOrder, HfMultiTaskTrainer):
        pass

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise InterruptedError

    def trained(name, stop=False, resume=False):
        rules = {"*/last": "last", "*/first": "first", "*/std": "std", "*/p": "median", "*/n": "total"}
        changes = {"logging_steps": 6, "save_strategy": "steps", "save_steps": 4, "ddp_backend": "gloo"}
        trainer = Ordered(
            Reporting(),
            arguments(out / name, **changes),
            train_dataset=numbers(*range(8 * dist.get_world_size())),
            metrics=MetricRegistry(rules, per_epoch="a/p"),
            callbacks=[Stop()] if stop else [],
        )
        try:
            trainer.train(resume_from_checkpoint=resume)
        except InterruptedError:
            dist.barrier()
        return [{name: row[name] for name in row if "/" in name} for row in trainer.state.log_history]

    return {
        "whole": trained("whole"),
        "stopped": trained("stopped", stop=True),
        "resumed": trained("stopped", resume=True),
    }


def epochs(out: Path) -> object:
    """Train on ranks that have different numbers of batches per epoch, and on ranks that have as many."""
    from helpers.toy import InOrder, Reports, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer

    class Stream(torch.utils.data.IterableDataset):
        def __init__(self, *values):
            self.values = values

        def __iter__(self):
            yield from numbers(*self.values)

    class Ordered(InOrder, HfMultiTaskTrainer):
        pass

    class OwnLoader(Ordered):
        def get_train_dataloader(self):
            return torch.utils.data.DataLoader(self.train_dataset)

    def rows(trainer_class, data, max_steps, resume=None, **changes):
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*")
        args = arguments(out / "epochs", max_steps=max_steps, ddp_backend="gloo", **changes)
        trainer = trainer_class(Reports(), args, train_dataset=data, metrics=registry)
        trainer.train(resume_from_checkpoint=resume)
        named = [{name: row[name] for name in row if "a/" in name} for row in trainer.state.log_history]
        return [*filter(None, named)]

    own = Stream(*range(5)) if dist.get_rank() == 0 else Stream(100, 101, 102)
    uneven = {"accelerator_config": {"even_batches": False}}
    saved = {"save_strategy": "steps", "save_steps": 4}
    return {
        "streams": rows(OwnLoader, own, 6, logging_steps=3),
        "rows": rows(Ordered, numbers(*range(5)), 4, **uneven, **saved),
        "resumed": rows(Ordered, numbers(*range(5)), 9, resume=str(out / "epochs" / "checkpoint-4")),
        "micro-batches": rows(Ordered, numbers(*range(5)), 2, gradient_accumulation_steps=4, **uneven),
        "dispatched": rows(Ordered, Stream(*range(5)), 3),
    }


def phases(out: Path) -> object:
    """Run forwards outside of the steps, a phase in a callback, and a phase in a step that only one rank enters."""
    from transformers import TrainerCallback

    from helpers.toy import InOrder, Toy, arguments, numbers
    from mtask_sinks import HfMultiTaskTrainer

    rank = dist.get_rank()

    class Around(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            with torch.no_grad():
                model(torch.full((1, 1), 1e6))  # in train mode, but outside of a step, so it does not count
                with trainer.report_phase("probe"):
                    for number in range(1 + rank):
                        model(torch.full((1, 1), 100.0 * state.global_step + rank + number))

    class Ordered(InOrder, HfMultiTaskTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            if rank == 1 and self.state.global_step >= 2:
                with torch.no_grad(), self.report_phase("rollout"):
                    model(inputs["x"] * 1000)
            return super().training_step(model, inputs, *args, **kwargs)

    trainer = Ordered(
        Toy(),
        arguments(out / "phases", ddp_backend="gloo"),
        train_dataset=numbers(*range(12)),
        callbacks=[Around()],
        metrics=MetricRegistry(derived={"a/seconds": lambda m: m["window.seconds"]}),
    )
    trainer.train()
    with trainer.report_phase("after") as after:
        trainer.model(torch.full((1, 1), float(rank)))
    return {"rows": trainer.state.log_history, "after": after}


def death(out: Path) -> object:
    """The last rank dies before the snapshot. The others get the error of the process group."""
    metrics = MetricRegistry()
    metrics.report_metrics("a", x=1.0)
    if dist.get_rank() == dist.get_world_size() - 1:
        os._exit(0)
    started = time.monotonic()
    try:
        metrics.snapshot(1)
    except RuntimeError as error:
        return [type(error).__module__, str(error), time.monotonic() - started]
    return None


def main() -> None:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    for name in names:
        gc.freeze()  # accelerate collects garbage when a training begins; exempt the imported objects
        result = globals()[name](out)
        (out / f"{name}-{dist.get_rank()}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
