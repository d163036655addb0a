"""How far apart two results are, and what of a result survives the cut."""

import math
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from shrink.core.graph import map_nodes
from shrink.core.groups import ChannelGroups, Dim
from shrink.core.inputs import Inputs, map_tensors, tensors_in

Seen = dict[tuple[str, int], tuple[Any, Any]]
"""What modules were given and returned, by path and number of the call, in order of return."""


def difference(found: Any, expected: Any) -> float | None:
    """Give the largest difference relative to the largest expected value, over all tensors.

    Returns:
        None where there is nothing to tell them apart by: no tensor, or only empty ones and zeros.
    """
    got, wanted = tensors_in(found), tensors_in(expected)
    if isinstance(found, Exception) or isinstance(expected, Exception) or len(got) != len(wanted):
        return float("inf")
    worst, told = 0.0, False
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not b.numel():
            continue
        a, b = _plain(a), _plain(b)  # noqa: PLW2901  # the same numbers
        told = told or bool(b.any()) or bool(a.any())
        scale = float(torch.where(b.isfinite(), b, 0).abs().max()) or 1.0
        error = float(torch.where(a == b, 0, a - b).abs().max()) / scale  # infinities may agree
        if math.isnan(error):  # it counts as a difference, whatever comes after it
            return error
        worst = max(worst, error)
    return worst if told else None


def _plain(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor).double() if tensor.is_complex() else tensor.double()


def cut_all(values: Any, nodes: Any, groups: ChannelGroups, kept: NDArray[np.bool_]) -> Any:
    """Cut nested tensors down to the indices that survive, given the nodes they stand for."""
    feed = iter(nodes_in(nodes))
    return map_tensors(values, lambda t: _cut(t, groups.values[next(feed).name][0], kept))


def _cut(tensor: Tensor, dims: tuple[Dim, ...], kept: NDArray[np.bool_]) -> Tensor:
    for d, dim in enumerate(dims):
        if dim.labels and not any(x.rows for x in dim.labels):
            indices = torch.from_numpy(np.flatnonzero(dim.alive(kept)))
            tensor = tensor.index_select(d, indices.to(tensor.device))
    return tensor


def is_ragged(nodes: Any, groups: ChannelGroups) -> bool:
    """Tell whether a cut of these values would keep other indices in every row."""
    dims = (d for n in nodes_in(nodes) for d in groups.values[n.name][0])
    return any(label.rows for d in dims for label in d.labels)


def nodes_in(value: Any) -> list[fx.Node]:  # Any: nested containers of anything
    """List the graph nodes in nested tuples, lists and dicts, in order."""
    found: list[fx.Node] = []
    map_nodes(value, found.append)
    return found


def run(model: nn.Module, inputs: Inputs) -> Any:  # Any: whatever the model returns
    """Run a model on copies of its inputs; return the exception if it raises one.

    Buffers that the forward pass writes to are as they were afterwards: a next run begins alike.
    """
    copied = map_tensors(inputs, torch.clone)  # in-place operators may write into arguments
    held = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        return map_tensors(model(*copied.args, **copied.kwargs), torch.clone)  # not the buffer
    except Exception as error:  # noqa: BLE001  # a wrong cut may fail anywhere in the user's code
        return error
    finally:
        for buffers, name, buffer, value in held:
            buffers[name] = buffer
            if not torch.equal(buffer, value):  # an expanded one cannot be written to
                buffer.copy_(value)


def observe(model: nn.Module, inputs: Inputs, paths: frozenset[str], seen: Seen) -> Any:
    """Run a model and note what the modules at `paths` are given and return.

    Returns:
        what it returns; or the exception, and `seen` ends with the module it was raised in, as
        what that returned.
    """
    counts: Counter[str] = Counter()
    running: list[tuple[str, Any]] = []
    handles = []
    for path in sorted(paths):

        def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            running.append((path, map_tensors((args, kwargs), torch.clone)))

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            path, given = running.pop()
            seen[path, counts[path]] = given, map_tensors(output, torch.clone)
            counts[path] += 1

        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        result = run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(result, Exception) and running:
        path, given = running[-1]
        seen[path, counts[path]] = given, result
    return result
