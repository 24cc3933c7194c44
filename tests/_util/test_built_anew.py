"""Copies of objects with locks are built anew from settings."""

from __future__ import annotations

import copy
import pickle
import threading

import cloudpickle
import pytest

from mtask_sinks._util.built_anew import BuiltAnew

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
}


class Counter(BuiltAnew):
    def __init__(self, start: int) -> None:
        self.start = start
        self.count = start
        self.lock = threading.Lock()

    def _settings(self) -> dict[str, int]:
        return {"start": self.start}


class Named(Counter):
    """Has another constructor, and an attribute that the base sets to something else."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(start=len(name))
        self.names = [name]


class Doubled(Counter):
    """Says itself what it is built from."""

    def __init__(self, half: int) -> None:
        super().__init__(2 * half)
        self.half = half

    def _settings(self) -> dict[str, int]:
        return {"half": self.half}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_as_new_and_keeps_what_was_added(way) -> None:
    counter = Named("abc")
    counter.count = 8
    counter.note = "mine"
    copied = WAYS[way](counter)
    assert (type(copied), copied.start, copied.count) == (Named, 3, 3)
    assert (copied.name, copied.names, copied.note) == ("abc", ["abc"], "mine")
    assert copied.lock is not counter.lock
    assert counter.count == 8


@pytest.mark.parametrize("way", WAYS)
def test_a_class_may_define_its_settings_anew(way) -> None:
    doubled = Doubled(half=4)
    doubled.count = 1
    copied = WAYS[way](doubled)
    assert (copied.half, copied.start, copied.count) == (4, 8, 8)


def test_a_copy_of_a_copy_is_one_too() -> None:
    twice = copy.deepcopy(pickle.loads(pickle.dumps(Named("ab"))))
    assert (twice.name, twice.count) == ("ab", 2)
