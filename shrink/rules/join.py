"""Joins: several tensors become one, side by side."""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.cat.default, aten.concat.default, aten.concatenate.default)
def couple_cat(site: Site) -> Value:
    """Join labels along one dimension and tie all others. Source: torch.cat."""
    return _joined(site, [v for v in site["tensors"] if v.shape != (0,)], site["dim"])


def _joined(site: Site, values: list[Value], dim: int) -> Value:
    because = site.because("joined with a dimension of fixed size")
    return labels.concatenate(site.store, values, dim, because)


@couples(aten.hstack.default, aten.vstack.default, aten.row_stack.default, aten.dstack.default)
def couple_stack_as(site: Site) -> Value:
    """Join along a fixed dimension, tensors of lower rank being viewed as columns, rows or planes.

    Source: torch.hstack, torch.vstack, torch.dstack.
    """
    name = site.operator._schema.name.removeprefix("aten::")
    least, dim = {"hstack": (1, 1), "dstack": (3, 2)}.get(name, (2, 0))
    rank = max(least, *(v.rank for v in site["tensors"]))
    because = site.because("joined with a dimension of fixed size")
    values = [
        labels.reshape(site.store, v, _with_rank(v.shape, rank), because) for v in site["tensors"]
    ]
    return _joined(site, values, min(dim, rank - 1))


def _with_rank(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Add dimensions of size 1 as `torch.atleast_2d` and `torch.atleast_3d` do."""
    if rank == 1:
        return shape or (1,)
    if len(shape) < 2:
        shape = (1, *(shape or (1,)))
    return (*shape, 1) if len(shape) < rank else shape


@couples(aten.column_stack.default)
def couple_column_stack(site: Site) -> Value:
    """Join along dimension 1, lines being viewed as columns. Source: torch.column_stack."""
    because = site.because("joined with a dimension of fixed size")
    values = [
        v if v.rank > 1 else labels.reshape(site.store, v, (*(v.shape or (1,)), 1), because)
        for v in site["tensors"]
    ]
    return _joined(site, values, 1)


@couples(aten.stack.default)
def couple_stack(site: Site) -> Value:
    """Tie all dimensions and add one, whose indices are the operands. Source: torch.stack."""
    dim = site["dim"] % len(site.shape)
    values = [labels.insert_dim(site.store, v, dim) for v in site["tensors"]]
    return _joined(site, values, dim)


@couples(aten.broadcast_tensors.default)
def couple_broadcast_tensors(site: Site) -> list[Value]:
    """Tie the operands' dimensions, aligned from the right. Source: torch.broadcast_tensors."""
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(site.store, site["tensors"], site.shape, because)
    return [joint for _ in site.shapes]


@couples(aten.meshgrid.default, aten.meshgrid.indexing)
def couple_meshgrid(site: Site) -> list[Value]:
    """Give every grid the labels of all lines, one per dimension.

    Shapes: lines (n_i,) or (); grids (n_1, n_2, ...), the first two swapped for `indexing="xy"`.
    Source: torch.meshgrid.
    """
    lines = [labels.flat(site.store, v, 0) if v.rank else () for v in site["tensors"]]
    if site.arguments.get("indexing") == "xy" and len(lines) > 1:
        lines[:2] = lines[1::-1]
    return [Value(s, list(lines)) for s in site.shapes]
