"""The choice of the parameters to measure, on several ranks. `test_real_ranks` trains on real ones."""

from __future__ import annotations

import torch
from torch import nn

from mtask_sinks.task_health.choice import WAIT_FOR_TASKS, ParameterChoice
from mtask_sinks.task_health.selection import select_named


def choices_after(model: nn.Sequential, *seen: dict[str, dict[int, int]], tries: int = 1) -> list[ParameterChoice]:
    """One choice per rank, each of which knows what all ranks have seen in as many micro-batches."""
    choices = [ParameterChoice(None) for _ in seen]
    for choice, distances in zip(choices, seen, strict=True):
        for _ in range(tries):
            choice.add(distances, model)
    everyones = [choice.seen(model) for choice in choices]
    for choice in choices:
        choice.merge(everyones, model)
    return choices


def blocks() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))


def test_ranks_choose_what_the_tasks_of_all_of_them_share() -> None:
    model = blocks()
    first, second, last = (id(layer.weight) for layer in model)
    deep, shallow = {first: 5, second: 3, last: 1}, {first: 3, second: 1}
    for choice in choices_after(model, {"a": deep}, {"b": shallow}, {}):
        assert choice.is_due and choice.tasks == ["a", "b"]
        assert choice.make(model).parameters == {"1.weight": model[1].weight}


def test_the_nearest_loss_of_a_task_on_any_rank_counts() -> None:
    model = blocks()
    first, second, _ = (id(layer.weight) for layer in model)
    for choice in choices_after(model, {"a": {first: 9, second: 3}, "b": {first: 1, second: 3}}, {"a": {first: 1}}):
        assert list(choice.make(model).parameters) == ["0.weight"]


def test_one_task_is_enough_after_ten_micro_batches_and_none_is_hopeless() -> None:
    model = blocks()
    only = {"a": {id(model[2].weight): 1}}
    for tries, is_due in ((WAIT_FOR_TASKS - 1, False), (WAIT_FOR_TASKS, True)):
        assert [choice.is_due for choice in choices_after(model, {}, only, tries=tries)] == [is_due] * 2
        nothing = choices_after(model, {}, {}, tries=tries)
        assert [(choice.is_due, choice.is_hopeless) for choice in nothing] == [(False, is_due)] * 2


def test_a_task_that_ranks_saw_while_the_trunk_was_frozen_is_waited_for() -> None:
    model = blocks()
    first, second, last = (id(layer.weight) for layer in model)
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    choices = choices_after(model, {"a": {last: 1}}, {"b": {}})
    model.requires_grad_(True)
    for seen, waits in (({"a": {first: 3, second: 2, last: 1}}, True), ({"b": {first: 2, second: 1}}, False)):
        choices[1].add(seen, model)
        everyones = [choice.seen(model) for choice in choices]
        for choice in choices:
            choice.merge(everyones, model)
        assert [choice.why_it_waits(model) is not None for choice in choices] == [waits] * 2
    for choice in choices:
        assert list(choice.make(model).parameters) == ["1.weight"]


def test_a_checkpoint_has_the_choice_of_a_tied_parameter_by_the_name_that_the_user_gave() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(2, 2), "decoder": nn.Linear(2, 2, bias=False)})
    model["decoder"].weight = model["embedding"].weight
    named = select_named("decoder", model)
    choice = ParameterChoice(named)
    choice.restore(named.name, [*named.parameters], ["a"], model)
    assert choice.made == named
