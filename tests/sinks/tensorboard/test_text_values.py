from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtask_sinks.sinks.tensorboard.event_file import EventFile
from mtask_sinks.sinks.tensorboard.scalar_events import ScalarEvents
from mtask_sinks.sinks.tensorboard.text_values import params_value, string_value, text_value


def read_back(directory: Path, value: Any) -> dict[str, bytes]:
    """Return the strings by tag that TensorBoard reads from an event with this value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = EventFile(directory, ".test")
    file.add(ScalarEvents().make({}, 1, 1.0, [value]))
    file.close()
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    tags = accumulator.Tags()["tensors"]
    return {tag: accumulator.Tensors(tag)[0].tensor_proto.string_val[0] for tag in tags}


def test_tensorboard_reads_the_text(tmp_path: Path) -> None:
    assert read_back(tmp_path, text_value("train/note", "grün")) == {"train/note/text_summary": "grün".encode()}


def test_parameters_are_json_in_indented_lines(tmp_path: Path) -> None:
    params = {"lr": 0.1, "betas": [0.9, 0.99], "path": Path("out")}
    (text,) = read_back(tmp_path, params_value(params)).values()
    lines = text.decode().splitlines()
    assert all(line.startswith("\t") for line in lines)
    assert json.loads("\n".join(lines)) == {"lr": 0.1, "betas": [0.9, 0.99], "path": "out"}


def test_a_string_has_the_shape_that_its_plug_in_expects() -> None:
    assert [dim.size for dim in text_value("x", "y").tensor.tensor_shape.dim] == [1]
    assert list(string_value("x", b"y", plugin="custom_scalars").tensor.tensor_shape.dim) == []
