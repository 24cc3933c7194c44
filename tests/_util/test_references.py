"""What becomes of references when objects are copied."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import cloudpickle
import pytest

from mtask_sinks._util.references import ProcessLocal, WeakReference

DEEP = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
}


class Owner:
    def __init__(self) -> None:
        self.part = Part(self)


class Part:
    def __init__(self, owner: Owner) -> None:
        self.owner = WeakReference(owner)


@pytest.mark.parametrize("way", DEEP)
def test_the_copy_of_a_reference_refers_to_the_copy(way) -> None:
    owner = Owner()
    copied = DEEP[way](owner)
    assert copied.part.owner() is copied
    assert owner.part.owner() is owner


@pytest.mark.parametrize("way", DEEP)
def test_a_reference_whose_object_is_gone_can_be_copied(way) -> None:
    part = Owner().part
    assert part.owner() is None
    assert DEEP[way](part).owner() is None


def test_a_reference_keeps_nothing_alive() -> None:
    gc.disable()
    try:
        copied = copy.deepcopy(Owner())
        alive = weakref.ref(copied)
        del copied
        assert alive() is None
    finally:
        gc.enable()


def test_what_belongs_to_the_process_is_shared_in_it_and_left_behind_by_a_pickle() -> None:
    lock = threading.Lock()
    here = ProcessLocal(lock)
    assert copy.deepcopy([here])[0].value is lock and copy.copy(here).value is lock
    there = pickle.loads(pickle.dumps(pickle.loads(cloudpickle.dumps(here))))
    assert (there.value, there.is_lost) == (None, True)
    nothing = pickle.loads(pickle.dumps(ProcessLocal(None)))
    assert (nothing.value, nothing.is_lost) == (None, False)
