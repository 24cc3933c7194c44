"""TensorBoard: event files, the charts of its tab Custom Scalars, and the sink that writes both."""

from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink as TensorBoardSink
