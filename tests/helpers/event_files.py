"""Reads TensorBoard event files."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.data.server_ingester import (
    DataServerStartupError,
    SubprocessServerDataIngester,
    get_server_binary,
)
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.util.grpc_util import ChannelCredsType

Series = dict[str, list[tuple[int, float]]]


def read_scalars(directory: Path) -> Series:
    """Return tag → (step, value) of one TensorBoard run: all event files directly in a directory."""
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def layouts(directory: Path) -> list[Layout]:
    """Return all layouts of the tab Custom Scalars of one run, oldest first."""
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    accumulator.Reload()
    if "custom_scalars__config__" not in accumulator.Tags()["tensors"]:
        return []
    tensors = accumulator.Tensors("custom_scalars__config__")
    return [Layout.FromString(tensor.tensor_proto.string_val[0]) for tensor in tensors]


def run_dirs(root: Path) -> list[Path]:
    """Return the directories of all TensorBoard runs below a directory."""
    return sorted({path.parent for path in root.rglob("*tfevents*")})


def read_served(root: Path, tags: Collection[str], points: int, seconds: float = 60.0) -> Series:
    """Return tag → (step, value) as TensorBoard's default data server shows it, after it has read ``points`` points.

    The tag of a sub-run begins with the name of its directory.

    Raises:
        NoDataServerError: there is no data server for this platform.
    """
    # The server ends when this object is deleted.
    server = SubprocessServerDataIngester(
        get_server_binary(), str(root), reload_interval=0, channel_creds_type=ChannelCredsType.LOCAL
    )
    end = time.monotonic() + seconds
    while True:
        try:
            server.start()
            break
        except DataServerStartupError:  # it gives a busy machine only some seconds
            if time.monotonic() > end:
                raise
    while True:
        read = server.data_provider.read_scalars(
            RequestContext(), experiment_id="", plugin_name="scalars", downsample=10_000
        )
        found = {
            name: [(point.step, point.value) for point in series]
            for run, by_tag in read.items()
            for tag, series in by_tag.items()
            if (name := tag if run == "." else f"{run}/{tag}") in tags
        }
        if sum(map(len, found.values())) >= points or time.monotonic() > end:
            return found
        time.sleep(0.1)
