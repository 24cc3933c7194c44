"""TensorBoard's layout holds the metrics of task health together, in both layouts of the files."""

from __future__ import annotations

import re

import pytest
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import TensorBoardSink

METRICS = {
    "mlm/loss": 1.0,
    "mlm/grad_norm": 1.0,
    "nsp/grad_norm": 1.0,
    "nsp/grad_share.estimated": 0.5,
    "health/grad_cosine.mlm.nsp": -0.5,
    "health/conflict": 1.0,
}


@pytest.mark.parametrize("layout", ["flat", "overlay"])
def test_one_category_has_the_cosines_and_the_metrics_of_all_tasks(tmp_path, layout):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoardSink(str(tmp_path), layout=layout)
    sink.open(RunInfo(id="1"))
    sink.write(Snapshot(1, metrics=METRICS))
    sink.close("finished")
    tags, categories = set(), {}
    for directory in {path.parent for path in tmp_path.rglob("events.*")}:
        accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
        accumulator.Reload()
        found = accumulator.Tags()
        tags |= {*found["scalars"], *found["tensors"]}
        if "custom_scalars__config__" in found["tensors"]:
            value = accumulator.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
            categories = {category.title: category for category in Layout.FromString(value).category}
    charts = {
        chart.title: sorted(tag for tag in tags if re.match(chart.multiline.tag[0], tag))
        for chart in categories["health"].chart
    }
    prefix = {"flat": ("health/", "mlm/", "nsp/"), "overlay": ("", "", "")}[layout]
    assert charts["cosines of the gradients"] == [f"{prefix[0]}train/grad_cosine.mlm.nsp"]
    assert charts["norms of the gradients"] == sorted({f"{each}train/grad_norm" for each in prefix[1:]})
    assert charts["share of the gradient"] == [f"{prefix[2]}train/grad_share.estimated"]


def test_without_task_health_there_is_no_such_category(tmp_path):
    from mtask_sinks.sinks.tensorboard.health_charts import health_category

    assert health_category([("health", "pulse"), ("mlm", "grad_norm")], False) is None
