"""Reduction policies: how the values of a window become one number.

Values with weights come in; one number goes out. `base` is what every reducer is, `builtin` and `sampled` are those of
this library, `lookup` finds a reducer by its name, also those that the user registers or packages offer.

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
