"""Reducers, which turn the values of a window into one number.

In: values with weights. Out: one number. `base` defines what a reducer is. `builtin` and `sampled` have the reducers of
this library. `lookup` finds a reducer by its name, also one that a user registered or an installed package offers.

May import: `errors`, `_util`.
"""

from mtask_sinks.errors import ReducerError
from mtask_sinks.reducers.base import Floats, Reducer, TimedReducer
from mtask_sinks.reducers.builtin import Count, First, Last, Max, Mean, Min, Std, Sum, Total
from mtask_sinks.reducers.lookup import ReducerSpec, as_reducer, known_reducers, register_reducer
from mtask_sinks.reducers.sampled import FunctionReducer, Quantile, Sample, ValuesReducer, share_size

__all__ = [
    "Count",
    "First",
    "Floats",
    "FunctionReducer",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Quantile",
    "Reducer",
    "ReducerError",
    "ReducerSpec",
    "Sample",
    "Std",
    "Sum",
    "TimedReducer",
    "Total",
    "ValuesReducer",
    "as_reducer",
    "known_reducers",
    "register_reducer",
    "share_size",
]
