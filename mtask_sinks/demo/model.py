"""The model: BERT with both pre-training tasks, which reports the metrics of each task."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertForPreTraining, BertForPreTrainingOutput

from mtask_sinks import report_metrics, weighted
from mtask_sinks.demo.data import IGNORED


class BertForDemo(BertForPreTraining):  # type: ignore[no-untyped-call]
    """`BertForPreTraining` that reports metrics of both tasks.

    It reports ``mlm/loss`` and ``mlm/accuracy`` (both weighted by masked tokens), ``mlm/n_tokens``, ``nsp/loss`` and
    ``nsp/accuracy``.
    """

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        next_sentence_label: Tensor,
    ) -> BertForPreTrainingOutput:
        """Compute the sum of both losses, each a mean over its own items.

        All arguments are int64 of shape ``(batch, length)``, except the last: ``(batch,)``.
        """
        sequence, pooled = self.bert(input_ids, attention_mask, token_type_ids, return_dict=False)[:2]
        is_masked = labels != IGNORED
        # Predict only the masked tokens, which is 15 % of the work.
        tokens = self.cls.predictions(sequence[is_masked])
        follows: Tensor = self.cls.seq_relationship(pooled)
        mlm_loss = functional.cross_entropy(tokens, labels[is_masked])
        nsp_loss = functional.cross_entropy(follows, next_sentence_label)

        n_masked = int(is_masked.sum())
        n_pairs = len(next_sentence_label)
        report_metrics(
            "mlm",
            loss=weighted(mlm_loss, n_masked),
            accuracy=(tokens.argmax(-1) == labels[is_masked]),
            n_tokens=n_masked,
        )
        report_metrics("nsp", loss=weighted(nsp_loss, n_pairs), accuracy=follows.argmax(-1) == next_sentence_label)
        return BertForPreTrainingOutput(loss=mlm_loss + nsp_loss)


def make_model(vocab_size: int, length: int) -> BertForDemo:
    """Make a very small BERT, with 0.35 million parameters, that learns both tasks in about a minute on two cores."""
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=length,
        initializer_range=0.08,  # with 0.02, which BERT uses for 768 dimensions, this model learns NSP later
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForDemo(config)
