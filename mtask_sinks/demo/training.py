"""Runs the training of the demo: data, model, trainer, sinks."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry
from mtask_sinks.demo.data import Collator, SentencePairs, split_documents, train_tokenizer
from mtask_sinks.demo.model import make_model
from mtask_sinks.demo.text import read_documents
from mtask_sinks.trainer.report_to import sinks_for

LENGTH = 96
VOCAB_SIZE = 4096
HELD_OUT = 0.1
EVAL_PAIRS = 512


@dataclass(frozen=True)
class Result:
    """Results of a run of the demo."""

    run_dir: Path
    log_history: list[dict[str, float]]
    best_checkpoint: str | None


def train(output_dir: Path, max_steps: int, report_to: Sequence[str], seed: int) -> Result:
    """Train the model of the demo.

    Args:
        output_dir: directory for all output; each call makes a new directory in it (``demo-1``, ``demo-2``, …).
        max_steps: number of optimizer steps.
        report_to: as in `TrainingArguments`.
        seed: random seed of the model, the data and the split into training and held-out documents.

    Raises:
        UnknownSinkError: ``report_to`` has a name that no sink has.
        MissingBackendError: the package of a sink is not installed.
    """
    sinks_for(report_to)  # raises on a wrong name before it writes anything
    run_dir = _new_run_dir(output_dir)
    _keep_backends_local(output_dir)
    documents, held_out = split_documents(read_documents(), HELD_OUT, seed)
    tokenizer = train_tokenizer(documents, VOCAB_SIZE)
    vocab_size = tokenizer.get_vocab_size()
    every = max(max_steps // 7, 1)
    args = TrainingArguments(
        output_dir=str(run_dir),
        run_name=run_dir.name,
        max_steps=max_steps,
        per_device_train_batch_size=24,
        per_device_eval_batch_size=64,
        learning_rate=3e-3,
        warmup_steps=max_steps // 10,
        weight_decay=0.01,
        adam_beta2=0.98,
        logging_steps=max(max_steps // 35, 1),
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_mlm/loss",
        greater_is_better=False,
        report_to=list(report_to),
        seed=seed,
        data_seed=seed,
    )
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    trainer = HfMultiTaskTrainer(
        model_init=lambda: make_model(vocab_size, LENGTH),
        args=args,
        train_dataset=SentencePairs(documents, tokenizer, LENGTH),
        eval_dataset=SentencePairs(held_out, tokenizer, LENGTH).fixed(EVAL_PAIRS, vocab_size, seed),
        data_collator=Collator(vocab_size),
        metrics=MetricRegistry(
            reducers={"*/n_tokens": "sum"},
            derived={"mlm/perplexity": lambda m: math.exp(m["mlm/loss"])},
        ),
    )
    trainer.train()
    return Result(run_dir, trainer.state.log_history, trainer.state.best_model_checkpoint)


def _new_run_dir(output_dir: Path) -> Path:
    """Make the first free ``demo-<n>``: earlier runs stay, so that users can compare them."""
    number = 1
    while (output_dir / f"demo-{number}").exists():
        number += 1
    run_dir = output_dir / f"demo-{number}"
    run_dir.mkdir(parents=True)
    return run_dir


def _keep_backends_local(output_dir: Path) -> None:
    """Set up the backends to need no server, account or network, unless the user's environment says otherwise."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(output_dir / 'mlflow.db').resolve()}")
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "mtask-sinks-demo")
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(output_dir.resolve()))
    os.environ.setdefault("WANDB_PROJECT", "mtask-sinks-demo")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
