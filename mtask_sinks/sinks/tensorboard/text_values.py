"""Makes event values that hold text. TensorBoard stores text as tensors of strings, each for one of its tabs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def string_value(tag: str, text: bytes, *, plugin: str, shape: Sequence[int] = ()) -> Any:
    """Return a string as a ``Summary.Value``.

    >>> string_value("note/text_summary", b"hello", plugin="text", shape=[1]).tensor.string_val
    [b'hello']

    Args:
        tag: name of the value.
        text: the string.
        plugin: the plug-in of TensorBoard that shows the value.
        shape: the tensor's shape, as that plug-in expects it.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    dimensions = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text], tensor_shape=dimensions)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def text_value(tag: str, text: str) -> Any:
    """Return a text as a value for TensorBoard's tab Text.

    >>> text_value("train/note", "hello").tag
    'train/note/text_summary'
    """
    return string_value(f"{tag}/text_summary", text.encode(), plugin="text", shape=[1])


def params_value(params: Mapping[str, Any]) -> Any:
    """Return the parameters of a run as JSON, as a value for TensorBoard's tab Text.

    >>> params_value({"learning_rate": 0.1}).tensor.string_val[0].decode().splitlines()
    ['\\t{', '\\t  "learning_rate": 0.1', '\\t}']
    """
    text = json.dumps(dict(params), indent=2, default=str)
    # TensorBoard shows text as Markdown, in which indented lines are code.
    return text_value("params", "".join(f"\t{line}\n" for line in text.splitlines()))
