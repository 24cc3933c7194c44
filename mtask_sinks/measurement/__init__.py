"""Turns reported values into numbers.

In: a number, an array, a tensor, or ``weighted(value, weight)``. Out: an *entry*, which has numbers and weights and
shares no memory with the value. Values on an accelerator wait in a queue until the log event. This room also
recognises forwards that gradient checkpointing repeats, and counts micro-batches.

May import: `reducers`, `errors`, `_util`.
"""
