"""Results of operators on meta tensors; for the commonest without asking torch, which is slow.

torch works out many shapes in Python decompositions (100 us and more a call). What is here gives
the same shape, dtype and memory layout; where in doubt it gives none, and torch is asked.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

Shortcut = Callable[..., "Tensor | None"]


def _first(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def _like(x: Tensor, *_: Any, **__: Any) -> Tensor | None:
    return torch.empty_like(x) if x.is_floating_point() else None


def _contiguous_like(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _binary(x: Tensor, y: Any, **_: Any) -> Tensor | None:
    if not isinstance(y, Tensor):
        return None
    alike = (y.shape, y.dtype, y.stride()) == (x.shape, x.dtype, x.stride())
    return torch.empty_like(x) if alike else None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if weight.dim() != 2 or x.shape[-1] != weight.shape[1] or x.dtype != weight.dtype:
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _batch_norm(x: Tensor, *terms: Any, **_: Any) -> Tensor | None:
    channels = [t.shape for t in terms[:4] if t is not None]
    if x.dim() < 2 or any(s != x.shape[1:2] for s in channels):
        return None
    return torch.empty_like(x)


def _layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
) -> Tensor | None:
    shape = tuple(normalized_shape)
    if x.shape[x.dim() - len(shape) :] != shape:
        return None
    if any(t is not None and t.shape != shape for t in (weight, bias)):
        return None
    return _contiguous_like(x)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **more: Any
) -> Tensor | None:
    fits = (
        query.dim() == key.dim() == value.dim() >= 3
        and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
        and query.shape[-1] == key.shape[-1]
        and key.shape[-2] == value.shape[-2]
    )
    if not fits or attn_mask is not None or more.get("enable_gqa"):
        return None
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Tensor | None:
    pairs = (stride, padding, dilation)
    fits = (
        x.dim() == weight.dim() == 4
        and all(len(p) == 2 for p in pairs)
        and x.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and (bias is None or bias.shape == weight.shape[:1])
        and x.dtype == weight.dtype
        and x.is_contiguous()
    )
    if not fits:
        return None
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], *pairs, strict=True)
    ]
    return x.new_empty((x.shape[0], weight.shape[0], *size)) if min(size) > 0 else None


_SHORTCUTS: dict[Any, Shortcut] = {
    aten.conv2d.default: _conv2d,
    aten.layer_norm.default: _layer_norm,
    aten.scaled_dot_product_attention.default: _attention,
    aten.batch_norm.default: _batch_norm,
    aten.linear.default: _linear,
    aten.softmax.int: _like,
    **dict.fromkeys(
        (
            aten.relu_.default,
            aten.hardtanh_.default,
            aten.silu_.default,
            aten.hardswish_.default,
            aten.leaky_relu_.default,
            aten.sigmoid_.default,
            aten.fill_.Scalar,
            aten.zero_.default,
            aten.dropout_.default,
        ),
        _first,
    ),
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.hardtanh.default,
            aten.gelu.default,
            aten.silu.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.sigmoid.default,
            aten.tanh.default,
            aten.leaky_relu.default,
            aten.dropout.default,
        ),
        _like,
    ),
    **dict.fromkeys((aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor), _binary),
}


def run_on_meta(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on meta tensors: no data, no arithmetic."""
    with torch._C._DisablePythonDispatcher():
        shortcut = _SHORTCUTS.get(operator)
        result = shortcut(*args, **kwargs) if shortcut is not None else None
        return operator(*args, **kwargs) if result is None else result
