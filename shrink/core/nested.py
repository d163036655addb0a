"""Tuples, lists, mappings and dataclasses inside one another, as models take and return them."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def map_leaves(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """Apply `function` to every leaf of a kind; copy the containers, leave other leaves."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple | list):
        parts = (map_leaves(v, kind, function) for v in value)
        # `_make` runs no constructor: that of a packed sequence asks its tensors for their device
        make = getattr(value, "_make", type(value))
        return make(parts)
    if isinstance(value, Mapping):
        mapped = {k: map_leaves(v, kind, function) for k, v in value.items()}
        return mapped if type(value) is dict else like(value, mapped)
    if is_instance_of_dataclass(value):
        return map_fields(value, lambda _, part: map_leaves(part, kind, function))
    return value


def is_instance_of_dataclass(value: Any) -> bool:
    """Tell a dataclass's instance from the class and from everything else."""
    return is_dataclass(value) and not isinstance(value, type)


def map_fields(value: Any, function: Callable[[str, Any], Any]) -> Any:
    """Copy a dataclass, applying `function` to the name and value of every field."""
    made = copy.copy(value)
    for field in fields(value):
        if hasattr(value, field.name):
            part = function(field.name, getattr(value, field.name))
            object.__setattr__(made, field.name, part)  # also of a frozen one
    return made


def as_dicts(value: Any) -> Any:
    """Write dataclasses as dicts of their fields; copy the other containers."""
    if is_instance_of_dataclass(value) and not isinstance(value, Mapping):
        held = (f.name for f in fields(value) if hasattr(value, f.name))
        return {name: as_dicts(getattr(value, name)) for name in held}
    if type(value) in (tuple, list):
        return type(value)(map(as_dicts, value))
    return {k: as_dicts(v) for k, v in value.items()} if type(value) is dict else value


def like(value: Mapping[Any, Any], mapped: dict[Any, Any]) -> Any:
    """Make a mapping of the kind of `value`, or else a plain dict."""
    try:
        return type(value)(**mapped)
    except TypeError:
        return mapped
