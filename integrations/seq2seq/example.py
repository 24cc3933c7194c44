"""Trains an encoder-decoder on two tasks at once, and evaluates the text that it generates.

The data are words of the documentation that ships with Python. The task `double` repeats each letter, and `reverse`
writes the word backwards. The first token names the task.
"""

from __future__ import annotations

import argparse
import re
import string
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
)

from mtask_sinks import MetricRegistry, MultiTaskTrainerMixin

TASKS = ("double", "reverse")
SPECIAL = ["<pad>", "<eos>", *(f"<{task}>" for task in TASKS)]


class MultiTaskSeq2SeqTrainer(MultiTaskTrainerMixin, Seq2SeqTrainer):
    pass


class Model(T5ForConditionalGeneration):
    supports_report_metrics = True
    accepts_loss_kwargs = False  # because of **kwargs below, the Trainer would send num_items_in_batch otherwise

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
        # generate() calls the forward once per token, without labels. Do not report then.
        if labels is not None and hasattr(self, "report_metrics"):
            losses = torch.nn.functional.cross_entropy(outputs.logits.transpose(1, 2), labels, reduction="none")
            for task in TASKS:
                rows = input_ids[:, 0] == SPECIAL.index(f"<{task}>")
                letters = rows[:, None] & (labels != -100)
                if rows.any():
                    is_right = outputs.logits[letters].argmax(-1) == labels[letters]
                    self.report_metrics(task, loss=losses[letters], accuracy=is_right, n_words=rows.sum())
        return outputs


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *string.ascii_lowercase])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def make_data(tokenizer: PreTrainedTokenizerFast) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return words for training, and held-out words."""
    words = sorted({word for text in topics.values() for word in re.findall(r"\b[a-z]{3,5}\b", text)})
    rows = []
    for word in words:
        for task, answer in (("double", "".join(2 * letter for letter in word)), ("reverse", word[::-1])):
            question = tokenizer(f"<{task}>{word}<eos>", add_special_tokens=False)
            rows.append({**question, "labels": tokenizer(f"{answer}<eos>", add_special_tokens=False)["input_ids"]})
    return [row for n, row in enumerate(rows) if n % 40 >= 2], [row for n, row in enumerate(rows) if n % 40 < 2]


def right_letters(prediction: Any) -> dict[str, float]:
    """Compute the share of letters that the model generated at the right place."""
    answers = prediction.label_ids
    generated = prediction.predictions[:, 1:]  # without the decoder's start token
    missing = max(answers.shape[1] - generated.shape[1], 0)
    generated = np.pad(generated, [(0, 0), (0, missing)])[:, : answers.shape[1]]
    return {"right_letters": float((generated == answers)[answers > 0].mean())}  # the Trainer pads answers with <pad>


def make_trainer(output_dir: str, cls: Any = MultiTaskSeq2SeqTrainer, **settings: Any) -> Any:
    """Make the trainer.

    Args:
        output_dir: directory for the training's output.
        cls: the trainer class.
        **settings: training arguments that replace the defaults below.
    """
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    size = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "num_layers": 2, "dropout_rate": 0.0}
    model = Model(T5Config(vocab_size=len(tokenizer), **size, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0))
    args = {
        "output_dir": output_dir, "max_steps": 150, "logging_steps": 25, "learning_rate": 1e-2,
        "per_device_train_batch_size": 32, "per_device_eval_batch_size": 64, "eval_strategy": "steps",
        "eval_steps": 75, "predict_with_generate": True, "generation_max_length": 14, "save_strategy": "no",
        "report_to": "tensorboard", "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False, **settings,
    }  # fmt: skip
    train, held_out = make_data(tokenizer)
    extra = {"metrics": MetricRegistry(reducers={"*/n_*": "sum"})} if issubclass(cls, MultiTaskTrainerMixin) else {}
    return cls(
        model,
        Seq2SeqTrainingArguments(**args),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model),
        compute_metrics=right_letters,
        **extra,
    )


def main(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", required=True)
    given = parser.parse_args(arguments)
    trainer = make_trainer(given.output_dir)
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
