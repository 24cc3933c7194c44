"""Trains with TRL (SFT, DPO or reward modelling) on two tasks at once, and logs the metrics of each task.

The text is the documentation that ships with Python. The first token of every example names its task, as in T5.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Iterator
from pydoc_data.topics import topics
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast, Trainer
from transformers.utils import is_peft_available
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from mtask_sinks import MetricRegistry, MultiTaskTrainerMixin, report_metrics

SPECIAL = ["<pad>", "<eos>", "<title>", "<continue>", "<calm>", "<brief>"]
VOCABULARY = 1000
SIZE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


class MultiTaskSFTTrainer(MultiTaskTrainerMixin, SFTTrainer):
    pass


class MultiTaskDPOTrainer(MultiTaskTrainerMixin, DPOTrainer):
    pass


class MultiTaskRewardTrainer(MultiTaskTrainerMixin, RewardTrainer):
    pass


@functools.cache
def sentences() -> list[tuple[str, list[str]]]:
    """Return topic and words of about 500 sentences."""
    found = [(topic, part.split()[:24]) for topic, text in sorted(topics.items()) for part in text.split(". ")]
    return [(topic.lower(), words) for topic, words in found if len(words) >= 12][::3]


@functools.cache
def learn_tokens() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (" ".join(words) for _, words in sentences()),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def completions() -> list[dict[str, str]]:
    """Make data for SFT: name the topic of the beginning of a sentence, or continue it."""
    rows = []
    for topic, words in sentences():
        half = " ".join(words[:8])
        rows.append({"prompt": f"<title> {half}", "completion": f" {topic}"})
        rows.append({"prompt": f"<continue> {half}", "completion": " " + " ".join(words[8:])})
    return rows


def preferences() -> list[dict[str, str]]:
    """Make data for DPO: prefer the second half of a sentence to the same in capitals, or with words added."""
    rows = []
    for topic, words in sentences():
        half, rest = " ".join(words[:8]), " " + " ".join(words[8:])
        rows.append({"prompt": f"<calm> {half}", "chosen": rest, "rejected": rest.upper()})
        rows.append({"prompt": f"<brief> {half}", "chosen": rest, "rejected": f"{rest}, and so on about {topic}"})
    return rows


def whole_texts() -> list[dict[str, str]]:
    """Make data for reward modelling: the same choices as whole texts."""
    return [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in preferences()]


def task_rows(inputs: dict[str, Any], tasks: tuple[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each task of the batch with its rows: those that begin with the token of the task."""
    first = inputs["input_ids"][:, 0]
    for task in tasks:
        rows = first == SPECIAL.index(f"<{task}>")
        if rows.any():
            yield task, rows


def report_sft(model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
    for task, rows in task_rows(inputs, ("title", "continue")):
        learned = outputs.label_mask[rows]  # only tokens of completions count
        loss, is_right = -outputs.log_probs[rows][learned], outputs.is_top1[rows][learned]
        report_metrics(task, loss=loss, accuracy=is_right, n_tokens=learned.sum())


def is_reference(model: torch.nn.Module) -> bool:
    """Whether TRL runs a model with PEFT as its own reference: with its adapters off, or with the adapter "ref"."""
    if not is_peft_available():
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    return any(layer.disable_adapters or "ref" in layer.active_adapters for layer in layers)


def report_dpo(model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
    if is_reference(model):
        return
    for task, rows in task_rows(inputs, ("calm", "brief")):
        chosen, rejected = outputs.log_probs[rows].sum(1).chunk(2)
        report_metrics(task, chosen_logp=chosen, rejected_logp=rejected, prefers_chosen=chosen > rejected)


class RewardModel(LlamaForSequenceClassification):
    supports_report_metrics = True

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:  # type: ignore[override]
        outputs = super().forward(input_ids=input_ids, **kwargs)
        if hasattr(self, "report_metrics"):
            for task, rows in task_rows({"input_ids": input_ids}, ("calm", "brief")):
                chosen, rejected = outputs.logits[rows].squeeze(-1).chunk(2)
                loss = -torch.nn.functional.logsigmoid(chosen - rejected)
                self.report_metrics(task, loss=loss, accuracy=chosen > rejected)
        return outputs


def make_trainer(method: str, output_dir: str, cls: type[Trainer] | None = None, **settings: Any) -> Trainer:
    """Make the trainer of one method.

    Args:
        method: ``sft``, ``dpo`` or ``reward``.
        output_dir: directory for the training's output.
        cls: a trainer class to use instead of the one with task metrics.
        **settings: arguments of the method's configuration that replace the defaults below.
    """
    torch.manual_seed(0)
    tokenizer = learn_tokens()
    config = LlamaConfig(vocab_size=VOCABULARY, **SIZE, pad_token_id=0, eos_token_id=1, bos_token_id=None, num_labels=1)
    args = {
        "output_dir": output_dir, "max_steps": 60, "logging_steps": 10, "learning_rate": 3e-3, "max_length": 64,
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 16, "eval_strategy": "steps",
        "eval_steps": 30, "save_strategy": "no", "report_to": "tensorboard", "use_cpu": True, "bf16": False,
        "disable_tqdm": True, "dataloader_pin_memory": False, **settings,
    }  # fmt: skip
    rows = {"sft": completions, "dpo": preferences, "reward": whole_texts}[method]()
    held_out = Dataset.from_list([row for index, row in enumerate(rows) if index % 40 < 2])
    train = Dataset.from_list([row for index, row in enumerate(rows) if index % 40 >= 2])
    common = {"train_dataset": train, "eval_dataset": held_out, "processing_class": tokenizer}
    if cls is None:
        cls = {"sft": MultiTaskSFTTrainer, "dpo": MultiTaskDPOTrainer, "reward": MultiTaskRewardTrainer}[method]
    if issubclass(cls, MultiTaskTrainerMixin):
        common["metrics"] = MetricRegistry(reducers={"*/n_*": "sum"})
    if method == "reward":
        return cls(RewardModel(config), RewardConfig(**args), **common)
    model = LlamaForCausalLM(config)
    if method == "sft":
        trainer = cls(model, SFTConfig(**args), **common)
    else:
        trainer = cls(model, ref_model=copy.deepcopy(model), args=DPOConfig(**args), **common)
    # A hook, because TRL computes log-probabilities without calling the forward of the model's class. Only the trained
    # model gets it, so that the reference model reports nothing.
    model.register_forward_hook({"sft": report_sft, "dpo": report_dpo}[method], with_kwargs=True)
    return trainer


def main(arguments: list[str] | None = None) -> Trainer:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=["sft", "dpo", "reward"], default="sft")
    parser.add_argument("--output_dir", required=True)
    given = parser.parse_args(arguments)
    disable_progress_bars()
    trainer = make_trainer(given.method, given.output_dir)
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
