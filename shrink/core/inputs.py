"""Example inputs: how the caller wrote them, their description as data, and fresh random ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from shrink.core.errors import InputError
from shrink.core.nested import is_instance_of_dataclass, like, map_fields, map_leaves


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
    """Apply `function` to every tensor in nested containers; copy the containers."""
    return map_leaves(value, Tensor, function)


def tensors_in(value: Any) -> list[Tensor]:  # Any: nested containers of anything
    """List the tensors in nested containers, in order."""
    found: list[Tensor] = []
    map_tensors(value, found.append)
    return found


def map_named(value: Any, name: str, function: Callable[[str, Any], Any]) -> Any:
    """Apply `function` to the dotted name and value of every tensor, or graph node in its place.

    A model's only argument is `input`; of several, one is `input.0` or `input.mask`. Results are
    named alike: `output`, `output.1`, `output.logits`.
    """
    if isinstance(value, Tensor | Node):
        return function(name, value)
    if isinstance(value, Inputs):
        alone = len(value.args) == 1 and not value.kwargs
        return Inputs(
            tuple(
                map_named(v, name if alone else f"{name}.{i}", function)
                for i, v in enumerate(value.args)
            ),
            {k: map_named(v, f"{name}.{k}", function) for k, v in value.kwargs.items()},
        )
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", range(len(value)))
        parts = [map_named(v, f"{name}.{k}", function) for k, v in zip(names, value, strict=True)]
        make = getattr(value, "_make", type(value))
        return make(parts)
    if isinstance(value, Mapping):
        mapped = {k: map_named(v, f"{name}.{k}", function) for k, v in value.items()}
        return mapped if type(value) is dict else like(value, mapped)
    if is_instance_of_dataclass(value):
        return map_fields(value, lambda k, v: map_named(v, f"{name}.{k}", function))
    return value


def cut_named(value: Any, name: str, keep: Mapping[str, Mapping[int, tuple[int, ...]]]) -> Any:
    """Cut the inputs or outputs of a model down to the indices that a plan keeps of them.

    Args:
        value: `Inputs`, or whatever the model returns.
        name: `"input"` or `"output"`.
        keep: `Plan.interface`.
    """

    def cut(path: str, tensor: Tensor) -> Tensor:
        for dim, indices in keep.get(path, {}).items():
            tensor = tensor.index_select(dim, torch.tensor(indices, device=tensor.device))
        return tensor

    return map_named(value, name, cut)


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
