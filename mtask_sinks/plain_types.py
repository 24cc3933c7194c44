"""Dataclasses with field types that every argument parser understands."""

# No `from __future__ import annotations`: the point is to make real types.
import copyreg
import types
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, List, Optional, TypeVar, Union, get_args, get_origin, get_type_hints  # noqa: UP035

_T = TypeVar("_T")


def with_plain_types(cls: type[_T]) -> type[_T]:
    """The same dataclass with one plain type a field, for parsers that know no unions.

    >>> from transformers import TrainingArguments
    >>> plain = with_plain_types(TrainingArguments)
    >>> issubclass(plain, TrainingArguments), {f.name: f.type for f in fields(plain)}["report_to"]
    (True, typing.Optional[typing.List[str]])

    `parser-binding` 0.1.2 takes ``Optional[X]`` at most, while `TrainingArguments` has fields such as
    ``None | str | list[str]`` and ``SchedulerType | str``. Here a union becomes what one writes on a command line: a
    list of strings if it may be a list, else a string (also for a dict: its JSON, which `TrainingArguments` reads).

    Instances pickle as instances of ``cls``, so that checkpoints do not depend on this function.
    """
    namespace: dict[str, Any] = {"__annotations__": {}, "__reduce__": lambda self: _reduce(self, cls)}
    hints = get_type_hints(cls)  # not the types of the fields, which HfArgumentParser changes
    for spec in fields(cls):  # type: ignore[arg-type]
        if spec.init:
            plain = namespace["__annotations__"][spec.name] = _plain(hints[spec.name])
            namespace[spec.name] = _with_default(spec, plain)
    return dataclass(type(cls.__name__, (cls,), namespace))


def _reduce(instance: Any, cls: type[Any]) -> tuple[Any, ...]:
    """What `object` itself would say for an instance of ``cls``."""
    return copyreg._reconstructor, (cls, object, None), vars(instance)  # type: ignore[attr-defined]


def _plain(annotation: Any) -> Any:
    """The plain type for an annotation."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    options = [option for option in (get_args(annotation) if is_union else (annotation,)) if option is not type(None)]
    if any(option is list or get_origin(option) is list for option in options):
        return Optional[List[str]]  # noqa: UP006, UP045
    if len(options) == 1 and (options[0] in (bool, int, float) or _is_enum(options[0])):
        return Optional[options[0]] if is_union else options[0]  # noqa: UP045
    return Optional[str] if is_union else str  # noqa: UP045


def _with_default(spec: Any, plain: Any) -> Any:
    """The field with its default in the form that a parser would produce.

    A factory, because parsers convert plain defaults to the type of the field: ``False`` to ``"False"``.
    """
    default = spec.default.value if isinstance(spec.default, Enum) and not _is_enum(plain) else spec.default
    factory = spec.default_factory
    if default is not MISSING:
        is_list = plain == Optional[List[str]] and isinstance(default, str)  # noqa: UP006, UP045
        factory = lambda: default.split() if is_list else default  # noqa: E731
    return field(default_factory=factory, metadata=spec.metadata)


def _is_enum(plain: Any) -> bool:
    return isinstance(plain, type) and issubclass(plain, Enum)
