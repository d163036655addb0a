"""Example inputs: how the caller wrote them, their description as data, and fresh random ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shrink.core.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """The arguments of one forward call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def as_inputs(example_inputs: Any) -> Inputs:  # Any: whatever the model's forward takes
    """Read example inputs: a tensor, a tuple or list of arguments, or keyword arguments."""
    if isinstance(example_inputs, Inputs):
        return example_inputs
    if isinstance(example_inputs, Tensor):
        return Inputs((example_inputs,))
    if isinstance(example_inputs, Mapping):
        return Inputs((), dict(example_inputs))
    if isinstance(example_inputs, tuple | list):
        return Inputs(tuple(example_inputs))
    raise InputError(
        f"example inputs are a {type(example_inputs).__name__}",
        where="example_inputs",
        fix="pass a tensor, a tuple of arguments, or a dict of keyword arguments",
    )


def map_tensors(value: Any, function: Any) -> Any:  # Any: nested containers of anything
    """Apply `function` to every tensor in nested tuples, lists and dicts; copy the containers."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Inputs):
        return Inputs(map_tensors(value.args, function), map_tensors(value.kwargs, function))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(v, function) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(v, function) for v in value)
    if isinstance(value, Mapping):
        mapped = {k: map_tensors(v, function) for k, v in value.items()}
        return mapped if type(value) is dict else _like(value, mapped)
    return value


def _like(value: Mapping[Any, Any], mapped: dict[Any, Any]) -> Any:
    try:
        return type(value)(**mapped)
    except TypeError:
        return mapped


def tensors_in(value: Any) -> list[Tensor]:  # Any: nested containers of anything
    """List the tensors in nested tuples, lists and dicts, in order."""
    found: list[Tensor] = []
    map_tensors(value, found.append)
    return found


def describe(inputs: Inputs) -> dict[str, Any]:
    """Describe inputs as JSON values: shapes, dtypes and, for integers, the range of values."""
    return {
        "args": [_describe(v) for v in inputs.args],
        "kwargs": {k: _describe(v) for k, v in inputs.kwargs.items()},
    }


def _describe(value: Any) -> Any:
    if isinstance(value, Tensor):
        entry: dict[str, Any] = {
            "shape": list(value.shape),
            "dtype": str(value.dtype).removeprefix("torch."),
        }
        if not value.is_floating_point() and value.numel() and not value.is_complex():
            entry["range"] = [int(value.min()), int(value.max())]
        return {"tensor": entry}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_describe(v) for v in value]}
    if isinstance(value, Mapping):
        return {"dict": {k: _describe(v) for k, v in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise InputError(
        f"cannot describe an argument of type {type(value).__name__}",
        where="example_inputs",
        fix="pass tensors, numbers, strings, and tuples, lists or dicts of them",
    )


def make_inputs(description: Mapping[str, Any], *, seed: int = 0) -> Inputs:
    """Make fresh random inputs that fit a description: normal floats, integers in their range."""
    generator = torch.Generator().manual_seed(seed)
    try:
        return Inputs(
            tuple(_make(v, generator) for v in description["args"]),
            {k: _make(v, generator) for k, v in description["kwargs"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            "the description of the example inputs is damaged", where="inputs"
        ) from error


def _make(entry: Mapping[str, Any], generator: torch.Generator) -> Any:
    ((kind, value),) = entry.items()
    if kind == "tensor":
        dtype = getattr(torch, value["dtype"])
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(value["shape"], generator=generator, dtype=torch.float32).to(dtype)
        low, high = value.get("range", (0, 1))
        return torch.randint(low, high + 1, value["shape"], generator=generator).to(dtype)
    if kind in ("tuple", "list"):
        made = [_make(v, generator) for v in value]
        return tuple(made) if kind == "tuple" else made
    if kind == "dict":
        return {k: _make(v, generator) for k, v in value.items()}
    if kind == "value":
        return value
    raise ValueError(kind)


def enlarge_batch(inputs: Inputs) -> Inputs:
    """Add one example to every tensor whose first dimension is the batch.

    The batch is the first dimension of the first tensor that has one.
    """
    batch = next((len(t) for t in tensors_in(inputs) if t.dim()), 0)

    def enlarge(tensor: Tensor) -> Tensor:
        if not tensor.dim() or len(tensor) != batch:
            return tensor
        return torch.cat([tensor, tensor[:1]])

    return Inputs(map_tensors(inputs.args, enlarge), map_tensors(inputs.kwargs, enlarge))
