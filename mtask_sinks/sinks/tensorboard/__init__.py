"""Writes scalars to TensorBoard's event files, grouped per task.

`sink` turns snapshots into events (`scalar_events`, `text_values`). Each of its sub-runs (`subrun`) appends them to its
own event file (`event_file`). `restart` makes TensorBoard purge points after a resume. `custom_scalars` defines the
charts of TensorBoard's tab Custom Scalars, with `health_charts` for task health, and `relative` for relative values.
"""

from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink as TensorBoardSink
