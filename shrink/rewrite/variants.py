"""The same model captured at other input sizes: what differs between the captures is not fixed."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shrink.core.errors import CaptureError
from shrink.core.graph import Graph
from shrink.core.inputs import Inputs, map_tensors, tensors_in
from shrink.rewrite.repair import Record

aten = torch.ops.aten

Axes = tuple[tuple[int, int], ...]  # (position of the tensor among the inputs, dimension)

_ENOUGH = 3  # captures for each dimension


@dataclass(frozen=True, eq=False)
class Variant:
    """A capture at another size of some inputs.

    Args:
        axes: which sizes of the inputs differ.
    """

    graph: Graph
    axes: Axes


def find_variants(
    model: nn.Module, inputs: Inputs, graph: Graph, record: Record
) -> tuple[Variant, ...]:
    """Capture the model at other batch sizes, lengths and resolutions, where it accepts them.

    Args:
        inputs: the example inputs.
        graph: captured with them.
    """
    found: list[Variant] = []
    settled: set[tuple[int, int]] = set()
    for axes in _candidates(tensors_in(inputs)):
        if not settled.isdisjoint(axes):
            continue
        tensor, dim = axes[0]
        size = tensors_in(inputs)[tensor].shape[dim]
        made = []
        for other in _sizes(size, is_batch=not dim, real=graph.capture == "real"):
            with contextlib.suppress(CaptureError):
                resized = _resize(inputs, axes, other)
                made.append(Variant(record(model, resized, worlds=(graph.capture,)), axes))
            if len(made) == _ENOUGH:
                break
        if len(made) > 1 or (made and graph.capture == "real"):
            settled.update(axes)
            found += made
    return tuple(found)


def _candidates(tensors: Sequence[Tensor]) -> Iterator[Axes]:
    """The batch; then what several tensors share; then each dimension; then equal ones."""
    batch = next((len(t) for t in tensors if t.dim()), 0)
    first = tuple((i, 0) for i, t in enumerate(tensors) if t.dim() and len(t) == batch)
    if first:
        yield first
    sizes: Mapping[tuple[int, int], int] = {
        (i, d): n for i, t in enumerate(tensors) for d, n in enumerate(t.shape)
    }
    others = [a for a in sizes if a not in first and sizes[a] > 1]
    equal = [tuple(a for a in others if sizes[a] == n) for n in dict.fromkeys(sizes.values())]
    yield from (e for e in equal if len({i for i, _ in e}) > 1)
    yield from ((a,) for a in others)
    yield from (e for e in equal if len({i for i, _ in e}) == 1 < len(e))


def _sizes(size: int, *, is_batch: bool, real: bool) -> list[int]:
    """Other sizes: multiples suit patches and windows, odd ones show what is padded."""
    if is_batch:
        wanted = [size + 1] if real else [size + 1, 2 * size + 1, 1]
    else:
        wanted = [size + 32] if real else [2 * size, size + 1, size + 32, 3 * size // 2, 1]
    return [n for n in dict.fromkeys(wanted) if n != size]


def _resize(inputs: Inputs, axes: Axes, size: int) -> Inputs:
    position = -1

    def resize(tensor: Tensor) -> Tensor:
        nonlocal position
        position += 1
        for at, dim in axes:
            if at == position:
                index = torch.arange(size, device=tensor.device) % tensor.shape[dim]
                tensor = tensor.index_select(dim, index)
        return tensor

    return Inputs(map_tensors(inputs.args, resize), map_tensors(inputs.kwargs, resize))


def find_call(graph: Graph, index: int, other: Graph) -> int | None:
    """Find the call in another capture that corresponds to a given one."""
    path = graph.calls[index].path
    before = sum(c.path == path for c in graph.calls[:index])
    same = [i for i, c in enumerate(other.calls) if c.path == path]
    return same[before] if before < len(same) else None


def is_alike(graph: Graph, index: int, other: Graph, place: int) -> bool:
    """Tell whether two calls have the same operators and calls inside."""
    return _outline(graph, index) == _outline(other, place)


def _outline(graph: Graph, index: int) -> tuple[list[Any], list[Any]]:
    call = graph.calls[index]
    inside = [c for c in graph.calls[index:] if c.stop <= call.stop and c.start >= call.start]
    return (
        # torch records a slice that takes everything as an alias
        [
            aten.slice.Tensor if n.target is aten.alias.default else n.target
            for n in graph.ops[call.start : call.stop]
        ],
        [(c.path, c.start - call.start, c.stop - call.start) for c in inside],
    )
