"""Reductions, scans and selections along dimensions."""

import math
from collections.abc import Mapping

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples, normalises, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten

_MEANS = (aten.mean.default, aten.mean.dim)
_SUMS = (aten.sum.default, aten.sum.dim_IntList, aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim)
_KEPT = (
    aten.amax.default,
    aten.amin.default,
    aten.max.default,
    aten.min.default,
    aten.max.dim,
    aten.min.dim,
    aten.prod.default,
    aten.prod.dim_int,
    aten.logsumexp.default,
    aten.all.default,
    aten.all.dim,
    aten.any.default,
    aten.any.dim,
    aten.median.dim,
    aten.std.correction,
    aten.var.correction,
    aten.std.dim,
    aten.var.dim,
    aten.var_mean.correction,
    aten.std_mean.correction,
)


def reduced_dims(dim: object, rank: int) -> tuple[int, ...]:
    """Read a `dim` argument: None or an empty list means all dimensions."""
    if isinstance(dim, int):
        return (dim % max(rank, 1),)
    if isinstance(dim, list | tuple) and dim:
        return tuple(d % rank for d in dim)
    return tuple(range(rank))


@couples(*_MEANS, *_SUMS, *_KEPT)
def couple_reduction(site: Site) -> Value | list[Value]:
    """Drop the reduced dimensions; what is removed from them does not count.

    Shapes: x any; result without the dimensions `dim`, or with size 1 there (`keepdim`).
    Source: torch.sum, torch.mean, torch.amax, torch.linalg.vector_norm.
    """
    x = site.values()[0]
    dims = reduced_dims(site.arguments.get("dim"), x.rank)
    if site.operator in _KEPT:
        for d in dims:
            labels.flat(site.store, x, d)
    dropped = labels.drop_dims(site.store, x, dims)
    if site.arguments.get("keepdim"):
        for d in sorted(dims):
            dropped = labels.insert_dim(site.store, dropped, d)
    if len(site.shapes) == 1:
        return dropped
    return [dropped for _ in site.shapes]


@resizes(*_MEANS)
def resize_mean(call: Call) -> Resized:
    """Divide by the original count: what was removed counts as zero."""
    ((before),) = call.inputs_before.values()
    ((after),) = call.inputs_after.values()
    dims = reduced_dims(call.arguments.get("dim"), len(before))
    old, new = math.prod(before[d] for d in dims), math.prod(after[d] for d in dims)
    return call.replace(factor=new / old)


@normalises(*_KEPT)
def normalise_kept(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Look at what is kept only."""
    ((name, shape),) = call.inputs_before.items()
    return {name: reduced_dims(call.arguments.get("dim"), len(shape))}


@couples(aten.softmax.int, aten.log_softmax.int, aten._softmax.default)
def couple_softmax(site: Site) -> Value:
    """Normalise over what is kept of one dimension.

    Shapes: x any; result likewise.
    Source: torch.nn.functional.softmax.
    """
    x, dim = site["self"], site["dim"]
    labels.flat(site.store, x, dim)
    labels.without_rows_on(site.store, x, [dim % x.rank])
    return x  # type: ignore[no-any-return]  # a Value by the schema


@normalises(aten.softmax.int, aten.log_softmax.int, aten._softmax.default)
def normalise_softmax(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Normalise over what is kept."""
    return {"self": (call["dim"],)}


@couples(
    aten.cumsum.default,
    aten.cumprod.default,
    aten.flip.default,
    aten.roll.default,
    aten.argsort.default,
    aten.sort.default,
    aten.diff.default,
    aten.topk.default,
    aten.argmax.default,
    aten.argmin.default,
)
def couple_ordered(site: Site) -> Value | list[Value]:
    """Freeze the dimensions along which order matters; the others pass.

    Source: torch.cumsum, torch.roll, torch.sort.
    """
    x = site.values()[0]
    named = site.arguments.get("dim", site.arguments.get("dims"))
    dims = reduced_dims(named, x.rank)
    site.freeze(x, dims, "order along the dimension matters")
    labels.without_rows_on(site.store, x, dims)
    made = []
    for shape in site.shapes:
        if len(shape) == x.rank:
            out = [() if d in dims else labels.of(site.store, x, d) for d in range(x.rank)]
            made.append(Value(shape, list(out)))
        else:
            made.append(labels.drop_dims(site.store, x, dims))
    return made[0] if len(made) == 1 else made
