"""What may be reported, and how it becomes numbers.

A reported value comes in: a number, an array, a tensor, ``weighted(value, weight)``. An *entry* goes out: numbers with
weights that share no memory with the value. Values on an accelerator wait in a queue until the log event. This room
also tells a first forward from one that gradient checkpointing repeats, and counts micro-batches.

May import: `reducers`, `errors`, `_util`.
"""
