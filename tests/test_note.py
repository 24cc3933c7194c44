"""A note is frozen and can be copied."""

from __future__ import annotations

import copy
import pickle

import pytest

from mtask_sinks.note import Note


def test_a_note_is_frozen_and_survives_copies():
    data = {"key": "mlm/loss"}
    note = Note("alert", 3, "text", data, 5.0)
    data["key"] = "other"
    assert note.data["key"] == "mlm/loss"
    with pytest.raises(TypeError):
        note.data["key"] = "other"
    with pytest.raises(AttributeError):
        note.step = 4
    assert pickle.loads(pickle.dumps(note)) == copy.deepcopy(note) == note
