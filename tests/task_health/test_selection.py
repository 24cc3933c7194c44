"""Which parameters are chosen, in models of several structures."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    GPT2Config,
    GPT2DoubleHeadsModel,
    MixtralConfig,
    MixtralForCausalLM,
)

from mtask_sinks.task_health.graph import reach_of
from mtask_sinks.task_health.selection import select_named, select_shared

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


def chosen(model, *losses):
    selection = select_shared([reach_of([loss]).distances for loss in losses], model)
    assert selection is not None
    return selection


@pytest.fixture(scope="module")
def bert():
    return BertForPreTraining(BertConfig(vocab_size=20, max_position_embeddings=8, **SIZES))


def bert_losses(model):
    output = model(input_ids=torch.ones(2, 4, dtype=torch.long))
    return output.prediction_logits.sum(), output.seq_relationship_logits.sum()


def test_bert_gives_its_last_layer_and_not_its_tied_embeddings(bert):
    selection = chosen(bert, *bert_losses(bert))
    assert selection.name == "bert.encoder.layer.1"
    layer = bert.bert.encoder.layer[1]
    assert {id(each) for each in selection.parameters.values()} == {id(each) for each in layer.parameters()}


def test_frozen_layers_are_passed_over(bert):
    try:
        bert.bert.encoder.layer[1].requires_grad_(False)
        assert chosen(bert, *bert_losses(bert)).name == "bert.encoder.layer.0"
    finally:
        bert.bert.encoder.layer[1].requires_grad_(True)


def test_gpt2_gives_its_last_block_and_not_its_last_norm():
    model = GPT2DoubleHeadsModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2))
    output = model(input_ids=torch.ones(2, 1, 4, dtype=torch.long), mc_token_ids=torch.zeros(2, 1, dtype=torch.long))
    assert chosen(model, output.logits.sum(), output.mc_logits.sum()).name == "transformer.h.1"


def test_a_mixture_of_experts_gives_its_layer_and_not_one_expert():
    config = MixtralConfig(
        vocab_size=20,
        num_key_value_heads=2,
        num_local_experts=2,
        max_position_embeddings=8,
        output_router_logits=True,
        **SIZES,
    )
    model = MixtralForCausalLM(config)
    ids = torch.ones(2, 4, dtype=torch.long)
    output = model(input_ids=ids, labels=ids)
    assert chosen(model, output.logits.sum(), output.logits.square().sum()).name == "model.layers.1"


def test_a_plain_sequence_gives_its_last_shared_module():
    trunk = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    model = nn.ModuleDict({"trunk": trunk, "a": nn.Linear(2, 1), "b": nn.Linear(2, 1)})
    hidden = trunk(torch.ones(1, 2))
    selection = chosen(model, model["a"](hidden).sum(), model["b"](hidden).sum())
    assert list(selection.parameters) == ["trunk.2.weight", "trunk.2.bias"]


def test_without_numbered_blocks_the_module_counts():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "a": nn.Linear(2, 1), "b": nn.Linear(2, 1)})
    hidden = model["encoder"](torch.ones(1, 2))
    selection = chosen(model, model["a"](hidden).sum(), model["b"](hidden).sum())
    assert (selection.name, list(selection.parameters)) == ("encoder", ["encoder.weight", "encoder.bias"])


def test_nothing_in_common():
    model = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)})
    reaches = [reach_of([model[task](torch.ones(1, 2)).sum()]).distances for task in "ab"]
    assert select_shared(reaches, model) is None


def test_names_ends_patterns_and_modules(bert):
    layer = bert.bert.encoder.layer[1]
    names = [f"bert.encoder.layer.1.{name}" for name, _ in layer.named_parameters()]
    for shared in ("bert.encoder.layer.1", "layer.1", "encoder.layer.1.*", layer):
        assert list(select_named(shared, bert).parameters) == names
    assert list(select_named("layer.1.output.dense.weight", bert).parameters) == [
        "bert.encoder.layer.1.output.dense.weight"
    ]
    tied = select_named("cls.predictions.decoder.weight", bert).parameters
    assert list(tied) == ["cls.predictions.decoder.weight"]
    assert tied["cls.predictions.decoder.weight"] is bert.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize("shared", ["layers.1", "layer.11", nn.Linear(1, 1)])
def test_what_is_not_there(bert, shared):
    with pytest.raises(ValueError, match="the model has no such parameter"):
        select_named(shared, bert)
