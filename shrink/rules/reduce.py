"""Reductions, scans and selections along dimensions."""

import math
from collections.abc import Mapping, Sequence

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples, normalises, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten

MEANS = (aten.mean.default, aten.mean.dim)
_SUMS = (
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.nansum.default,
    aten.count_nonzero.default,
    aten.count_nonzero.dim_IntList,
)
_NORMS = (
    aten.linalg_vector_norm.default,
    aten.norm.Scalar,
    aten.norm.ScalarOpt_dim,
    aten.norm.ScalarOpt_dim_dtype,
    aten.norm.ScalarOpt_dtype,
)
_KEPT = (
    aten.aminmax.default,
    aten.nanmean.default,
    aten.std.default,
    aten.var.default,
    aten.var_mean.default,
    aten.var_mean.dim,
    aten.std_mean.default,
    aten.std_mean.dim,
    aten.all.dims,
    aten.any.dims,
    aten.median.default,
    aten.nanmedian.default,
    aten.nanmedian.dim,
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


@couples(*_NORMS)
def couple_norm(site: Site) -> Value | list[Value]:
    """Drop the reduced dimensions, unless zeros count: an order below zero looks for the least.

    Shapes: x any; result without the dimensions `dim`, or with size 1 there (`keepdim`).
    Source: torch.linalg.vector_norm.
    """
    order = site.arguments.get("ord", site.arguments.get("p"))
    if order is not None and order < 0:
        x = site["self"]
        dims = reduced_dims(site.arguments.get("dim"), x.rank)
        site.freeze(x, dims, "norm of negative order")
    return couple_reduction(site)


@couples(*MEANS, *_SUMS, *_KEPT)
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


@resizes(*MEANS)
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


_SOFTMAXES = (
    aten.softmax.int,
    aten.log_softmax.int,
    aten._softmax.default,
    aten._log_softmax.default,
    aten._safe_softmax.default,
)


@couples(*_SOFTMAXES)
def couple_softmax(site: Site) -> Value:
    """Normalise over what is kept of one dimension.

    Shapes: x any; result likewise.
    Source: torch.nn.functional.softmax.
    """
    x, dim = site["self"], site["dim"]
    labels.flat(site.store, x, dim)
    labels.without_rows_on(site.store, x, [dim % x.rank])
    return x  # type: ignore[no-any-return]  # a Value by the schema


@normalises(*_SOFTMAXES)
def normalise_softmax(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Normalise over what is kept."""
    return {"self": (call["dim"],)}


_SCANS = (
    aten.cumprod.default,
    aten.cumprod_.default,
    aten.logcumsumexp.default,
)


@couples(aten.cumsum.default, aten.cumsum_.default, *_SCANS)
def couple_scan(site: Site) -> Value:
    """Run along one dimension; what is removed from it does not count.

    Shapes: x any; result likewise.
    Source: torch.cumsum, torch.cumprod, torch.logcumsumexp.
    """
    x = site["self"]
    if x.rank:
        labels.flat(site.store, x, site["dim"])
        labels.without_rows_on(site.store, x, [site["dim"] % x.rank])
    return x  # type: ignore[no-any-return]  # a Value by the schema


@normalises(*_SCANS)
def normalise_scan(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Run along what is kept; zeros, which change no sum, would change a product."""
    return {"self": (call["dim"],) if call.inputs_before["self"] else ()}


def couple_ordered(site: Site) -> Value | list[Value]:
    """Freeze the dimensions along which position or order matters; the others pass.

    Shapes: x any; each result with other sizes along these dimensions, or without them.
    Source: torch.sort, torch.diff, torch.fft.
    """
    x = site.values()[0]
    named = next((site.arguments[n] for n in ("dim", "dims") if n in site.arguments), None)
    if site.operator is aten.msort.default:
        named = 0
    return pass_others(site, x, reduced_dims(named, x.rank), "order along the dimension matters")


def pass_others(site: Site, x: Value, dims: Sequence[int], text: str) -> Value | list[Value]:
    """Freeze some dimensions, whatever becomes of them, and pass the labels of the others."""
    dims = [d % max(x.rank, 1) for d in dims]
    site.freeze(x, dims, text)
    labels.without_rows_on(site.store, x, dims)
    made = []
    for shape in site.shapes:
        if len(shape) == x.rank:
            out = [() if d in dims else labels.of(site.store, x, d) for d in range(x.rank)]
            made.append(Value(shape, list(out)))
        else:
            made.append(labels.drop_dims(site.store, x, dims))
    return made[0] if len(made) == 1 else made


couples(
    aten.cummax.default,
    aten.cummin.default,
    aten.argsort.default,
    aten.argsort.stable,
    aten.sort.default,
    aten.sort.stable,
    aten.diff.default,
    aten.topk.default,
    aten.kthvalue.default,
    aten.mode.default,
    aten.msort.default,
    aten.repeat_interleave.self_Tensor,
    aten.argmax.default,
    aten.argmin.default,
    aten.fft_fft.default,
    aten.fft_ifft.default,
    aten.fft_rfft.default,
    aten.fft_irfft.default,
    aten.fft_hfft.default,
    aten.fft_ihfft.default,
    aten.fft_fft2.default,
    aten.fft_ifft2.default,
    aten.fft_rfft2.default,
    aten.fft_irfft2.default,
    aten.fft_fftn.default,
    aten.fft_ifftn.default,
    aten.fft_rfftn.default,
    aten.fft_irfftn.default,
    aten.fft_fftshift.default,
    aten.fft_ifftshift.default,
)(couple_ordered)


@couples(
    aten.tril.default,
    aten.tril_.default,
    aten.triu.default,
    aten.triu_.default,
    aten.trace.default,
    aten.inverse.default,
    aten.linalg_inv.default,
    aten.linalg_det.default,
    aten.linalg_matrix_exp.default,
    aten.matrix_exp.default,
    aten.linalg_cholesky.default,
)
def couple_matrix(site: Site) -> Value | list[Value]:
    """Freeze the last two dimensions, which are one matrix; batch dimensions pass.

    Source: torch.tril, torch.linalg.inv.
    """
    x = site.values()[0]
    return pass_others(site, x, range(x.rank - 2, x.rank), "rows and columns of one matrix")


def _joint_shape(a: Value, b: Value) -> tuple[int, ...]:
    rank = max(a.rank, b.rank)
    padded = [(*[1] * (rank - v.rank), *v.shape) for v in (a, b)]
    return tuple(max(n) for n in zip(*padded, strict=True))


@couples(aten.pairwise_distance.default)
def couple_pairwise_distance(site: Site) -> Value:
    """Tie the operands and drop the last dimension, which they are compared along.

    Shapes: x1, x2 broadcast; result without the last dimension, or with size 1 there (`keepdim`).
    Source: torch.nn.functional.pairwise_distance.
    """
    x1, x2 = site.values()
    because = site.because("meets a dimension of fixed size")
    shape = _joint_shape(x1, x2)
    joint = labels.broadcast(site.store, [x1, x2], shape, because)
    labels.flat(site.store, joint, -1)
    made = labels.drop_dims(site.store, joint, [-1])
    return labels.insert_dim(site.store, made, made.rank) if site["keepdim"] else made


@normalises(aten.pairwise_distance.default)
def normalise_pairwise_distance(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Compare what is kept: `eps` is added to every difference."""
    both = {n: call.inputs_before[n] for n in ("x1", "x2")}
    return {n: (-1,) for n, shape in both.items() if shape and shape[-1] > 1}


@couples(aten.cosine_similarity.default)
def couple_cosine(site: Site) -> Value:
    """Tie the operands and drop the dimension they are compared along.

    Shapes: x1, x2 broadcast; result without dimension `dim`.
    Source: torch.nn.functional.cosine_similarity.
    """
    x1, x2 = site.values()
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(site.store, [x1, x2], _joint_shape(x1, x2), because)
    return labels.drop_dims(site.store, joint, [site["dim"]])
