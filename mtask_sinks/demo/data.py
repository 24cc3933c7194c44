"""Makes sentence pairs and masks, as in the BERT paper (Devlin et al., arXiv:1810.04805, sections 3.1 and A.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
from torch.utils.data import Dataset

#: Label of the tokens that the model does not have to predict.
IGNORED = -100
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_PAD, _CLS, _SEP, _MASK = 0, 2, 3, 4

Segment = list[int]


def train_tokenizer(documents: Sequence[Sequence[str]], vocab_size: int) -> BertWordPieceTokenizer:
    """Train a WordPiece tokenizer on the documents."""
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    sentences = (sentence for document in documents for sentence in document)
    tokenizer.train_from_iterator(sentences, vocab_size, min_frequency=3, special_tokens=_SPECIAL, show_progress=False)
    return tokenizer


def split_documents(
    documents: Sequence[Sequence[str]], share: float, seed: int
) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Split documents into those to train on, and a random share to hold out."""
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)  # noqa: S311
    held_out = max(int(len(shuffled) * share), 1)
    return shuffled[held_out:], shuffled[:held_out]


class SentencePairs(Dataset[dict[str, Tensor]]):
    """Pairs of segments: in half of them, the second follows the first; otherwise it comes from another document.

    A segment is as many neighbouring sentences as fit; item ``i`` begins at sentence ``i`` of the text. Each item has
    ``input_ids`` and ``token_type_ids`` (int64, shape ``(length,)``) and ``next_sentence_label`` (0: follows, 1: does
    not follow). Each access draws the second segment again, from torch's random state; `fixed` draws once.
    """

    def __init__(self, documents: Sequence[Sequence[str]], tokenizer: BertWordPieceTokenizer, length: int) -> None:
        self._segment_length = (length - 3) // 2
        self._documents = [
            [tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in document]
            for document in documents
        ]
        self._starts = [(d, s) for d, document in enumerate(self._documents) for s in range(len(document) - 1)]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        document, start = self._starts[index]
        first, end = self._segment(document, start)
        follows = bool(torch.rand(()) < 0.5) and end < len(self._documents[document])
        second, _ = self._segment(document, end) if follows else self._segment(*self._elsewhere(document))
        return _pair(first, second, follows)

    def fixed(self, size: int, vocab_size: int, seed: int) -> list[dict[str, Tensor]]:
        """Return the same random items at every call, already masked, so that evaluations are comparable."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chosen = torch.randperm(len(self))[:size].tolist()
            return [mask(self[index], vocab_size) for index in chosen]

    def _segment(self, document: int, start: int) -> tuple[Segment, int]:
        """Return the sentences from ``start`` on that fit (at least one, cut if too long), and the index after them."""
        segment: Segment = []
        for end, sentence in enumerate(self._documents[document][start:], start):
            if segment and len(segment) + len(sentence) > self._segment_length:
                return segment, end
            segment = [*segment, *sentence][: self._segment_length]
        return segment, len(self._documents[document])

    def _elsewhere(self, document: int) -> tuple[int, int]:
        """Draw another document and a sentence in it; every sentence of the text is equally likely."""
        while True:
            other, start = self._starts[int(torch.randint(len(self._starts), ()))]
            if other != document:
                return other, start


@dataclass
class Collator:
    """Masks the items that are not masked yet, and pads them to a batch."""

    vocab_size: int

    def __call__(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        masked = [item if "labels" in item else mask(item, self.vocab_size) for item in items]
        batch = {
            name: torch.nn.utils.rnn.pad_sequence([item[name] for item in masked], True, fill)
            for name, fill in (("input_ids", _PAD), ("token_type_ids", 0), ("labels", IGNORED))
        }
        batch["attention_mask"] = (batch["input_ids"] != _PAD).long()
        batch["next_sentence_label"] = torch.stack([item["next_sentence_label"] for item in masked])
        return batch


def mask(item: dict[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """Choose 15 % of the tokens to predict: 80 % of these become [MASK], 10 % a random token, 10 % stay as they are."""
    tokens = item["input_ids"].clone()
    chosen = (torch.rand(tokens.shape) < 0.15) & (tokens >= len(_SPECIAL))
    labels = torch.where(chosen, tokens, IGNORED)
    dice = torch.rand(tokens.shape)
    random_tokens = torch.randint(len(_SPECIAL), vocab_size, tokens.shape)
    tokens = torch.where(chosen & (dice < 0.8), _MASK, tokens)
    tokens = torch.where(chosen & (dice >= 0.9), random_tokens, tokens)
    return {**item, "input_ids": tokens, "labels": labels}


def _pair(first: Segment, second: Segment, follows: bool) -> dict[str, Tensor]:
    tokens = [_CLS, *first, _SEP, *second, _SEP]
    return {
        "input_ids": torch.tensor(tokens),
        "token_type_ids": torch.tensor([0] * (len(first) + 2) + [1] * (len(second) + 1)),
        "next_sentence_label": torch.tensor(0 if follows else 1),
    }
