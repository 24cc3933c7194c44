"""TensorBoard: scalars in event files, grouped per task.

`sink` turns snapshots into events; each of its sub-runs (`subrun`) appends them to an event file of its own
(`event_file`). `custom_scalars` are the charts of TensorBoard's tab of that name.
"""

from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink as TensorBoardSink
