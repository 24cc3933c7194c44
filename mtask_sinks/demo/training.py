"""Runs the training of the demo: data, model, trainer, sinks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry
from mtask_sinks.demo.data import Collator, SentencePairs, split_documents, train_tokenizer
from mtask_sinks.demo.model import make_model

LENGTH = 64
VOCAB_SIZE = 4096
HELD_OUT = 0.1
EVAL_PAIRS = 512


def train(run_dir: Path, texts: Sequence[Sequence[str]], max_steps: int, report_to: Sequence[str], seed: int) -> None:
    """Train the model of the demo.

    Args:
        run_dir: directory for the checkpoints and the journal of this run.
        texts: documents, each a sequence of sentences.
        max_steps: number of optimizer steps.
        report_to: as in `TrainingArguments`.
        seed: random seed of the model, the data and the split into training and held-out documents.
    """
    documents, held_out = split_documents(texts, HELD_OUT, seed)
    tokenizer = train_tokenizer(documents, VOCAB_SIZE)
    vocab_size = tokenizer.get_vocab_size()
    # With the default number of steps, the last step has an evaluation and a log event.
    every, logged_every = math.ceil(max_steps / 6), math.ceil(max_steps / 30)
    args = TrainingArguments(
        output_dir=str(run_dir),
        run_name=run_dir.name,
        max_steps=max_steps,
        per_device_train_batch_size=24,
        per_device_eval_batch_size=64,
        learning_rate=4e-3,
        warmup_steps=max_steps // 10,
        weight_decay=0.01,
        adam_beta2=0.98,
        logging_steps=logged_every,
        disable_tqdm=True,  # lines only, in the log or in a pipe
        dataloader_pin_memory=torch.cuda.is_available(),
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
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
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
