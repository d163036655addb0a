"""A second opinion on the certificate, which knows no labels, groups or graphs.

The original runs in float64 on eager tensors with the removed slices of its weights zeroed. That
alone makes removed channels harmless wherever weights read them. Where values meet values instead
(norms, softmaxes, reductions, products of two activations), the smaller model tells by its own
inputs to the same operation which elements are left: those whose values occur there.
"""

import contextlib
import copy
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from shrink.core.inputs import Inputs, map_tensors, tensors_in
from shrink.core.plan import Plan

aten = torch.ops.aten

_PRODUCTS = (
    "aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::mv", "aten::addmv", "aten::dot",
    "aten::convolution", "aten::_cdist_forward", "aten::_trilinear", "aten::cdist",
    "aten::mkldnn_rnn_layer",
)  # fmt: skip
_TOTALS = ("aten::sum", "aten::linalg_vector_norm", "aten::norm")


class Lost(Exception):  # noqa: N818  # no error: there is no second opinion
    """The two models do not run the same operations, so that nothing can be said."""


def second_opinion(model: nn.Module, smaller: nn.Module, plan: Plan, inputs: Inputs) -> float:
    """Return the largest difference of any output relative to the largest value of that output.

    Raises:
        Lost: the operations of the two do not correspond.
    """
    inputs = map_tensors(inputs, _raised)
    twin = copy.deepcopy(smaller).double().eval()
    zeroed = _zeroed(model, plan)
    watch = _Watch(_storages(twin))
    with _exact(), watch:
        found = tensors_in(twin(*_fresh(inputs).args, **_fresh(inputs).kwargs))
    masked = _Masked(watch.seen, _storages(zeroed))
    with _exact(), _told(zeroed, masked), masked:
        expected = tensors_in(zeroed(*_fresh(inputs).args, **_fresh(inputs).kwargs))
    if watch.seen:
        raise Lost(f"{len(watch.seen)} operations are left over")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.isfinite().all() != b.isfinite().all():
            return math.inf
        if not b.isfinite().all():
            raise Lost("the outputs are not finite")
        if b.numel():
            worst = max(worst, float((a - b).abs().max()) / (float(b.abs().max()) or 1.0))
    return worst


def _fresh(inputs: Inputs) -> Inputs:
    return map_tensors(inputs, torch.clone)


def _raised(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _zeroed(model: nn.Module, plan: Plan) -> nn.Module:
    zeroed = copy.deepcopy(model).double().eval()
    stored = {
        **dict(zeroed.named_parameters(remove_duplicate=False)),
        **dict(zeroed.named_buffers(remove_duplicate=False)),
    }
    with torch.no_grad():
        for name, dims in plan.keep.items():
            for dim, kept in dims.items():
                gone = sorted(set(range(stored[name].shape[dim])) - set(kept))
                stored[name].index_fill_(dim, torch.tensor(gone, dtype=torch.long), 0)
    return zeroed


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Run in float64, with attention written out as products and a softmax."""
    default, fused = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()
    torch.set_default_dtype(torch.float64)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_default_dtype(default)
        torch.backends.mha.set_fastpath_enabled(fused)


def _storages(model: nn.Module) -> set[int]:
    return {x.untyped_storage().data_ptr() for x in model.parameters()}


def _mixes(name: str, args: Any, stored: set[int]) -> bool:
    """Tell whether an operation lets values meet values: in weights, zeros are all it needs."""
    if name in _PRODUCTS:
        tensors = (x for x in args if isinstance(x, Tensor))
        return not any(x.untyped_storage().data_ptr() in stored for x in tensors)
    return name in _TOTALS or name in _KEPT


class _Watch(TorchDispatchMode):
    """Notes what the operations that mix values are given."""

    def __init__(self, stored: set[int]) -> None:
        super().__init__()
        self.stored = stored
        self.seen: deque[tuple[str, list[Tensor]]] = deque()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if _mixes(name, args, self.stored):
            given = [x.clone() if isinstance(x, Tensor) else x for x in args]
            self.seen.append((name, given))
        return func(*args, **(kwargs or {}))


class _Masked(TorchDispatchMode):
    """Leaves out of those operations what the smaller model does not have."""

    def __init__(self, seen: deque[tuple[str, list[Tensor]]], stored: set[int]) -> None:
        super().__init__()
        self.seen = seen
        self.stored = stored
        self.in_norm = False  # a mean of squares is taken over what is kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        if not _mixes(name, args, self.stored):
            return func(*args, **kwargs)
        if not self.seen or self.seen[0][0] != name:
            other = self.seen[0][0] if self.seen else "nothing"
            raise Lost(f"{name} where the smaller model runs {other}")
        left = self.seen.popleft()[1]
        pairs = list(zip(args, left, strict=True))
        if all(a.shape == b.shape for a, b in pairs if isinstance(a, Tensor)):
            return func(*args, **kwargs)
        if name in _KEPT:
            mask = _alive(args[0], left[0])
            return _KEPT[name](self, func, mask, args, left, kwargs)
        # all together: an einsum may order its operands by their sizes
        pool = torch.cat([x.flatten().double() for x in left if isinstance(x, Tensor)])
        masked = (torch.where(_alive(x, pool), x, 0) if isinstance(x, Tensor) else x for x in args)
        return func(*masked, **kwargs)


@contextlib.contextmanager
def _told(model: nn.Module, mode: _Masked) -> Iterator[None]:
    def enter(*_: Any) -> None:
        mode.in_norm = True

    def leave(*_: Any) -> None:
        mode.in_norm = False

    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        if type(module).__name__ == "_WeightNorm":  # a direction of length zero has none
            module.register_forward_hook(lambda _m, _args, weight: weight.nan_to_num(nan=0.0))
    yield


def _alive(x: Tensor, left: Tensor) -> Tensor:
    """Mark the elements whose values occur in what is left."""
    values = left.flatten().double().sort().values
    flat = x.flatten().double()
    near = torch.searchsorted(values, flat).clamp(max=len(values) - 1)
    gap = torch.minimum((values[near] - flat).abs(), (values[(near - 1).clamp(0)] - flat).abs())
    scale = float(values[values.isfinite()].abs().max()) if values.isfinite().any() else 1.0
    same = (gap <= 1e-10 * scale) | (flat == values[near])
    return same.view(x.shape)


def _layer_norm(
    _: _Masked, __: Any, mask: Tensor, args: Any, left: Any, ___: Any
) -> tuple[Tensor, Tensor, Tensor]:
    x, shape, weight, bias, eps = args
    over = tuple(range(x.dim() - len(shape), x.dim()))
    count = math.prod(left[1])
    y, mean, rstd = _standard(x, mask, over, count, eps)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias), mean, rstd


def _group_norm(
    _: _Masked, __: Any, mask: Tensor, args: Any, left: Any, ___: Any
) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, bias, n, c, _, groups, eps = args
    count = left[4] * left[5] // left[6]
    y, mean, rstd = _standard(
        x.reshape(n, groups, -1), mask.reshape(n, groups, -1), (2,), count, eps
    )
    y = y.view(n, c, -1)
    y = y if weight is None else y * weight[:, None]
    y = y if bias is None else y + bias[:, None]
    return y.view(x.shape), mean, rstd


def _standard(
    x: Tensor, mask: Tensor, over: tuple[int, ...], count: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    kept = torch.where(mask, x, 0)
    mean = kept.sum(over, keepdim=True) / count
    # elements that are exactly zero may be taken for kept ones or not: they are counted, not found
    variance = kept.square().sum(over, keepdim=True) / count - mean.square()
    rstd = torch.rsqrt(variance.clamp(min=0) + eps)
    return (x - mean) * rstd, mean, rstd


def _mean(mode: _Masked, func: Any, mask: Tensor, args: Any, left: Any, kwargs: Any) -> Tensor:
    mean = func(torch.where(mask, args[0], 0), *args[1:], **kwargs)
    if not mode.in_norm:
        return mean
    over = _over(args, args[0].dim())
    return mean * math.prod(args[0].shape[d] / left[0].shape[d] for d in over)


def _over(args: Any, rank: int) -> tuple[int, ...]:
    dims = args[1] if len(args) > 1 and args[1] is not None else ()
    dims = (dims,) if isinstance(dims, int) else dims
    return tuple(d % rank for d in dims) or tuple(range(rank))


def _same_dims(args: Any, left: Any) -> bool:
    return all(args[0].shape[d] == left[0].shape[d] for d in _over(args, args[0].dim()))


def _softmax(_: _Masked, func: Any, mask: Tensor, args: Any, left: Any, kwargs: Any) -> Tensor:
    if _same_dims(args, left):
        return func(*args, **kwargs)
    x, dim = args[0], args[1]
    log = "log" in func._schema.name
    total = (x.exp() * (mask & (x != 0))).sum(dim, keepdim=True)
    total = total + _zeros(x, mask, left[0], dim)
    return x - total.log() if log else x.exp() / torch.where(total == 0, 1, total)


def _zeros(x: Tensor, mask: Tensor, left: Tensor, dim: int) -> Tensor:
    """Count the zeros that must be among what is left along a dimension."""
    return (left.shape[dim] - (mask & (x != 0)).sum(dim, keepdim=True)).clamp(min=0)


def _logsumexp(_: _Masked, func: Any, mask: Tensor, args: Any, left: Any, kwargs: Any) -> Tensor:
    if _same_dims(args, left):
        return func(*args, **kwargs)
    x, (dim,) = args[0], _over(args, args[0].dim())
    total = (x.exp() * (mask & (x != 0))).sum(dim, keepdim=True) + _zeros(x, mask, left[0], dim)
    return total.log() if args[2:] and args[2] else total.log().squeeze(dim)


def _spread(_: _Masked, func: Any, mask: Tensor, args: Any, left: Any, kwargs: Any) -> Tensor:
    """Take a standard deviation or variance over what is left."""
    if _same_dims(args, left):
        return func(*args, **kwargs)
    x, over = args[0], _over(args, args[0].dim())
    count = math.prod(left[0].shape[d] for d in over)
    kept = torch.where(mask, x, 0)
    mean = kept.sum(over, keepdim=True) / count
    correction = kwargs.get("correction")
    squares = kept.square().sum(over, keepdim=True) - count * mean.square()
    variance = squares.clamp(min=0) / (count - (1 if correction is None else correction))
    result = variance.sqrt() if func._schema.name == "aten::std" else variance
    return result if kwargs.get("keepdim") else result.squeeze(over)


def _extreme(_: _Masked, func: Any, mask: Tensor, args: Any, left: Any, kwargs: Any) -> Any:
    if _same_dims(args, left):
        return func(*args, **kwargs)
    x = args[0]
    worst = -math.inf if "max" in func._schema.name else math.inf
    for d in _over(args, x.dim()):
        if x.shape[d] != left[0].shape[d]:
            zero = (_zeros(x, mask, left[0], d) > 0) & (x == 0)
            mask = (mask & (x != 0)) | zero
    alive = torch.where(mask, x, worst)
    alive = torch.where(alive.isinf().all(), x, alive)
    return func(alive, *args[1:], **kwargs)


_KEPT: dict[str, Callable[..., Any]] = {
    "aten::native_layer_norm": _layer_norm,
    "aten::native_group_norm": _group_norm,
    "aten::mean": _mean,
    "aten::_softmax": _softmax,
    "aten::_log_softmax": _softmax,
    "aten::_safe_softmax": _softmax,
    "aten::logsumexp": _logsumexp,
    "aten::std": _spread,
    "aten::var": _spread,
    "aten::amax": _extreme,
    "aten::amin": _extreme,
    "aten::max": _extreme,
    "aten::min": _extreme,
}
