"""Trains one sentence encoder on two data sets, each with its own loss, and logs the metrics of each task.

The text is the documentation that ships with Python. The task `ranking` finds the sentence that follows. The task
`similarity` predicts whether two sentences have the same topic.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss, MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mtask_sinks import MultiTaskTrainerMixin, weighted

VOCABULARY = 2000


class MultiTaskSentenceTransformerTrainer(MultiTaskTrainerMixin, SentenceTransformerTrainer):
    pass


class Ranking(MultipleNegativesRankingLoss):
    supports_report_metrics = True

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        loss = super().compute_loss_from_embeddings(embeddings, labels)
        if hasattr(self, "report_metrics"):
            anchors, candidates = embeddings
            found = self.similarity_fct(anchors, candidates).argmax(1)
            is_right = found == torch.arange(len(anchors), device=found.device)
            self.report_metrics("ranking", loss=weighted(loss, len(anchors)), accuracy=is_right)
        return loss


class Similarity(CosineSimilarityLoss):
    supports_report_metrics = True

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        loss = super().compute_loss_from_embeddings(embeddings, labels)
        if hasattr(self, "report_metrics"):
            self.report_metrics("similarity", loss=weighted(loss, len(labels)))
        return loss


def documents() -> list[list[str]]:
    """Return the sentences of every second topic of the language reference."""
    split = ([" ".join(part.split()[:24]) for part in text.split(". ")] for _, text in sorted(topics.items()))
    kept = ([sentence for sentence in sentences if len(sentence.split()) >= 8] for sentences in split)
    return [sentences for sentences in kept if len(sentences) >= 4][::2]


def make_data() -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """Return the two data sets for training, and the same two held out."""
    dice = random.Random(0)
    texts = documents()
    train: dict[str, list[dict[str, Any]]] = {"neighbours": [], "pairs": []}
    held_out: dict[str, list[dict[str, Any]]] = {"neighbours": [], "pairs": []}
    for text in texts:
        for index, (first, second) in enumerate(itertools.pairwise(text)):
            rows = held_out if index % 10 == 9 else train
            rows["neighbours"].append({"anchor": first, "positive": second})
            is_near = (index + index // 10) % 2
            other = second if is_near else dice.choice(dice.choice(texts))
            rows["pairs"].append({"first": first, "second": other, "score": float(is_near)})
    to_sets = ({name: Dataset.from_list(rows) for name, rows in part.items()} for part in (train, held_out))
    return next(to_sets), next(to_sets)


def make_model(directory: Path) -> SentenceTransformer:
    """Make a tiny BERT with the words of the same text. Saves it in a directory and loads it from there."""
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in documents() for sentence in text for word, _ in splitter.pre_tokenize_str(sentence.lower())
    )
    frequent = sorted(words, key=lambda word: (-words[word], word))[: VOCABULARY - 4]
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *frequent])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **names).save_pretrained(directory)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **size)
    BertModel(config).save_pretrained(directory)
    encoder = Transformer(str(directory))
    return SentenceTransformer(modules=[encoder, Pooling(64)], device="cpu")


def make_trainer(output_dir: str, cls: Any = MultiTaskSentenceTransformerTrainer, **settings: Any) -> Any:
    """Make the trainer.

    Args:
        output_dir: directory for the training's output and for the untrained model.
        cls: the trainer class.
        **settings: training arguments that replace the defaults below.
    """
    model = make_model(Path(output_dir, "untrained"))
    args = {
        "output_dir": output_dir, "max_steps": 60, "logging_steps": 10, "learning_rate": 2e-3,
        "per_device_train_batch_size": 16, "per_device_eval_batch_size": 16, "eval_strategy": "steps",
        "eval_steps": 30, "save_strategy": "no", "report_to": "tensorboard", "use_cpu": True, "disable_tqdm": True,
        "dataloader_pin_memory": False, **settings,
    }  # fmt: skip
    train, held_out = make_data()
    pairs = held_out["pairs"]
    return cls(
        model,
        SentenceTransformerTrainingArguments(**args),
        train_dataset=train,
        eval_dataset=held_out,
        loss={"neighbours": Ranking(model), "pairs": Similarity(model)},
        evaluator=EmbeddingSimilarityEvaluator(pairs["first"], pairs["second"], pairs["score"], write_csv=False),
    )


def main(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", required=True)
    given = parser.parse_args(arguments)
    disable_progress_bars()
    trainer = make_trainer(given.output_dir)
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
