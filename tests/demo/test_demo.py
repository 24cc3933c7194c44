"""Compares the demonstration's data with the recipe of the BERT paper."""

from __future__ import annotations

import pytest
import torch

from mtask_sinks.demo.data import IGNORED, Collator, SentencePairs, mask, split_documents, train_tokenizer
from mtask_sinks.demo.text import read_documents

CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def documents() -> list[list[str]]:
    return read_documents()


@pytest.fixture(scope="module")
def pairs(documents) -> SentencePairs:
    return SentencePairs(documents[:60], train_tokenizer(documents[:60], 2000), 64)


def test_there_is_real_text_without_any_network(documents) -> None:
    text = " ".join(sentence for document in documents for sentence in document)
    assert len(text) > 1_000_000
    assert "The try statement specifies exception handlers" in text.replace('"try"', "try")
    assert documents == read_documents()


def test_held_out_documents_are_not_trained_on(documents) -> None:
    train, held_out = split_documents(documents, 0.1, seed=3)
    assert len(held_out) == len(documents) // 10
    assert len(train) + len(held_out) == len(documents)
    assert not {id(document) for document in train} & {id(document) for document in held_out}


def test_pairs_have_the_form_of_the_paper(pairs) -> None:
    for index in range(0, len(pairs), 97):
        item = pairs[index]
        tokens, types = item["input_ids"].tolist(), item["token_type_ids"].tolist()
        assert (tokens[0], tokens[-1], tokens.count(SEP)) == (CLS, SEP, 2)
        assert types == sorted(types) and set(types) == {0, 1}
        assert types.count(0) == tokens.index(SEP) + 1
        assert len(tokens) <= 64


def test_half_of_the_pairs_follow_each_other(pairs) -> None:
    torch.manual_seed(0)
    labels = torch.stack([pairs[index]["next_sentence_label"] for index in range(2000)])
    assert 0.45 < labels.float().mean() < 0.56  # at the end of a document no sentence follows


def test_masking_is_15_percent_and_80_10_10() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(5, 1000, (200_000,))
    item = mask({"input_ids": tokens}, vocab_size=1000)
    chosen = item["labels"] != IGNORED
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.005)
    assert torch.equal(item["labels"][chosen], tokens[chosen])
    assert torch.equal(item["input_ids"][~chosen], tokens[~chosen])
    after = item["input_ids"][chosen]
    assert (after == MASK).float().mean() == pytest.approx(0.8, abs=0.01)
    assert (after == tokens[chosen]).float().mean() == pytest.approx(0.1, abs=0.01)


def test_special_tokens_are_never_masked(pairs) -> None:
    for index in range(50):
        item = mask(pairs[index], vocab_size=2000)
        special = torch.isin(item["labels"], torch.tensor([CLS, SEP, MASK, 0, 1]))
        assert not special.any()


def test_the_evaluation_set_is_the_same_every_time_and_leaves_the_random_state_alone(pairs) -> None:
    before = torch.get_rng_state()
    first, second = pairs.fixed(20, 2000, seed=1), pairs.fixed(20, 2000, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second) for name in a)


def test_batches_are_padded_and_say_where(pairs) -> None:
    items = [mask(pairs[index], 2000) for index in (0, 5, 9)]
    batch = Collator(2000)(items)
    for row, item in enumerate(items):
        size = len(item["input_ids"])
        assert torch.equal(batch["input_ids"][row, :size], item["input_ids"])
        assert batch["attention_mask"][row].sum() == size
        assert (batch["labels"][row, size:] == IGNORED).all()
