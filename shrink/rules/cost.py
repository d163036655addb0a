"""Multiply-adds of one ATen call, as a pure function of shapes.

The numbers are those of fvcore's `FlopCountAnalysis` (one multiply-add counts 1; norms, pools and
resizing as its handles count them), so that the cost of a plan can be evaluated without tracing.
Operators that fvcore has no handle for are marked "added" and reach fvcore through `set_op_handle`.

A formula takes `(args, kwargs, outputs)`: the arguments of the ATen call with every tensor
replaced by the tuple of its sizes, and the sizes of the tensors it returns. A size may be an int or
any object with `+` and `*` (a polynomial in kept channels), so formulas use nothing else on sizes.

Source: fvcore.nn.jit_handles, fvcore.nn.flop_count._DEFAULT_SUPPORTED_OPS.
"""

import math
import string
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

Size: TypeAlias = Any  # int, or an object with + and *
Shape: TypeAlias = tuple[Size, ...]
Formula: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any], tuple[Shape, ...]], Size]

aten = torch.ops.aten

_FORMULAS: dict[str, Formula] = {}


def macs(*ops: object) -> Callable[[Formula], Formula]:
    """Register the formula of operators, each with all its overloads.

    Args:
        ops: operators (`aten.conv2d`, `aten.conv2d.default`), or their qualified names
            (`"torchvision::deform_conv2d"`) where the library that defines them may be absent.

    Raises:
        ValueError: an operator has a formula already.
    """

    def register(formula: Formula) -> Formula:
        for name in {_name(op) for op in ops}:
            if name in _FORMULAS:
                msg = f"{name} has a formula already: {_FORMULAS[name].__qualname__}"
                raise ValueError(msg)
            _FORMULAS[name] = formula
        return formula

    return register


def find_macs(op: object) -> Formula | None:
    """Look up the formula of an operator or of its qualified name; None if it is not counted."""
    return _FORMULAS.get(_name(op))


def counted() -> Mapping[str, Formula]:
    """View every formula by the qualified name of its operator."""
    return MappingProxyType(_FORMULAS)


def _name(op: object) -> str:
    """Name an operator without its overload, `aten::conv2d`."""
    if isinstance(op, torch._ops.OpOverload):
        return str(op._schema.name)
    if isinstance(op, torch._ops.OpOverloadPacket):
        return str(op._qualified_op_name)
    return op if isinstance(op, str) else getattr(op, "__name__", str(op))


# Contractions


@macs(aten.conv1d, aten.conv2d, aten.conv3d, aten._convolution_mode, "torchvision::deform_conv2d")
def _conv(args: tuple[Any, ...], _: Mapping[str, Any], outputs: tuple[Shape, ...]) -> Size:
    """Every filter once per output position.

    Shapes: x (N, C_in, *S) or (C_in, *S); weight (C_out, C_in / groups, *K); result (N, C_out, *T).
    Added: string padding (traced as `_convolution_mode`) and deformable convolution.
    """
    weight, result = args[1], outputs[0]
    space = len(weight) - 2
    return math.prod(result[: -space - 1]) * math.prod(weight) * math.prod(result[-space:])


@macs(aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d)
def _conv_transpose(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Every filter once per input position.

    Shapes: x (N, C_in, *S) or (C_in, *S); weight (C_in, C_out / groups, *K).
    """
    x, weight = args[:2]
    space = len(weight) - 2
    return math.prod(x[: -space - 1]) * math.prod(weight) * math.prod(x[-space:])


@macs(aten.convolution)
def _any_conv(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: tuple[Shape, ...]) -> Size:
    """Count as the convolution that it is, or the transposed one. Added."""
    return (_conv_transpose if args[6] else _conv)(args, kwargs, out)


@macs(aten.conv_tbc)
def _conv_tbc(args: tuple[Any, ...], _: Mapping[str, Any], outputs: tuple[Shape, ...]) -> Size:
    """Every filter once per output position. Added.

    Shapes: x (T, N, C_in); weight (K, C_in, C_out); result (T_out, N, C_out).
    """
    return math.prod(args[1]) * math.prod(outputs[0][:-1])


@macs(aten.linear)
def _linear(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Shapes: x (*, in); weight (out, in) or (in,)."""
    x, weight = args[:2]
    return math.prod(x) * math.prod(weight[:-1])


@macs(aten.matmul, aten.linalg_matmul, aten.mm, aten.bmm, aten.mv, aten.dot)
def _matmul(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Every element of the left operand once per column of the right one.

    Shapes: left (*, n, k) or (k,); right (*, k, m) or (k,). As in fvcore, batch dimensions that
    only the right operand has are not counted. Added: a right operand of one dimension, `mv`,
    `dot`.
    """
    left, right = args[:2]
    return math.prod(left) * math.prod(right[-1:] if len(right) > 1 else ())


@macs(aten.addmm, aten.baddbmm, aten.addmv)
def _add_matmul(args: tuple[Any, ...], kwargs: Mapping[str, Any], out: tuple[Shape, ...]) -> Size:
    """Count the product; the addend is free. Added: `baddbmm`, `addmv`."""
    return _matmul(args[1:], kwargs, out)


@macs(aten.tensordot)
def _tensordot(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Every element of the left operand once per free index of the right one. Added."""
    left, right, _dims, contracted = args[:4]
    summed = {dim % len(right) for dim in contracted}
    return math.prod(left) * math.prod(n for dim, n in enumerate(right) if dim not in summed)


@macs(aten.bilinear)
def _bilinear(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Shapes: left (*, in1); right (*, in2); weight (out, in1, in2). Added."""
    left, _right, weight = args[:3]
    return math.prod(left[:-1]) * math.prod(weight)


@macs(aten.einsum)
def _einsum(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Contract from left to right; each step costs the product of all its index sizes.

    Replaces fvcore's handle, which gives this number for two operands but rounds it to four digits,
    and for more of them searches an order that depends on the sizes.
    """
    equation, shapes = args[:2]
    terms, arrow, result = equation.replace(" ", "").partition("->")
    operands = [_indices(term, shape) for term, shape in zip(terms.split(","), shapes, strict=True)]
    if not arrow:  # implicit result: indices that occur once
        result = "".join(c for c in string.ascii_letters if terms.count(c) == 1)
    total: Size = 0
    done = operands[0]
    for step, operand in enumerate(operands[1:], start=2):
        sizes = {**operand, **done}
        total = total + math.prod(sizes.values())
        wanted = {*result, *(index for later in operands[step:] for index in later)}
        done = {i: n for i, n in sizes.items() if i in wanted or not isinstance(i, str)}
    return total


def _indices(term: str, shape: Shape) -> dict[Hashable, Size]:
    """Name the dimensions of one einsum operand; those of `...` count from the last, as (-1,)."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after) if dots else 0
    names: list[Hashable] = [*before, *((i - hidden,) for i in range(hidden)), *after]
    return dict(zip(names, shape, strict=True))


@macs(
    aten.scaled_dot_product_attention,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
)
def _attention(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Count q @ k and attention @ v; softmax and mask are free, and causality saves nothing. Added.

    Shapes: q (*, L, E); k (*, S, E); v (*, S, E_v); with grouped queries k and v have fewer heads.
    """
    q, k, v = args[:3]
    return math.prod(q) * k[-2] + math.prod(q[:-1]) * k[-2] * v[-1]


@macs(aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu)
def _recurrent(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Every weight matrix once per step and sequence; gates are free. Added.

    Shapes: x (T, N, in) or (N, T, in) or packed (steps, in); the last list of tensors holds the
    weights.
    """
    lists = [a for a in args if _is_tensor_list(a)]
    matrices = [shape for shape in lists[-1] if len(shape) == 2]
    steps = math.prod(args[0][:-1])
    return sum(steps * math.prod(shape) for shape in matrices)


def _is_tensor_list(argument: object) -> bool:
    return (
        isinstance(argument, list | tuple)
        and len(argument) > 0
        and all(isinstance(item, tuple) for item in argument)
    )


@macs(aten.lstm_cell, aten.gru_cell, aten.rnn_tanh_cell, aten.rnn_relu_cell)
def _recurrent_cell(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """One step: both weight matrices. fvcore sees the two linear calls inside.

    Shapes: x (N, in); hidden (N, H), or a list with it first; weights (gates * H, in or H).
    """
    x, hidden, w_x, w_hidden = args[:4]
    state = hidden[0] if _is_tensor_list(hidden) else hidden
    return math.prod(x) * w_x[0] + math.prod(state) * w_hidden[0]


# Norms


def _norm(weight_position: int) -> Formula:
    """Make the formula of a norm over its own statistics: 4 per element, 5 with affine terms."""

    def norm(args: tuple[Any, ...], kwargs: Mapping[str, Any], _: tuple[Shape, ...]) -> Size:
        given = len(args) > weight_position  # trailing defaults may be left out
        weight = args[weight_position] if given else kwargs.get("weight")
        return math.prod(args[0]) * (4 if weight is None else 5)

    return norm


macs(aten.instance_norm)(_norm(1))
macs(aten.layer_norm, aten.group_norm, aten.rms_norm)(_norm(2))  # added: rms_norm, as layer_norm


@macs(aten.batch_norm)
def _batch_norm(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """Running statistics: 1 per element, 2 with affine terms; batch statistics: 4 and 5."""
    own_statistics = args[5]
    return math.prod(args[0]) * ((4 if own_statistics else 1) + (args[1] is not None))


# Element-wise with a weight


def _per_output(scale: int) -> Formula:
    def resample(_: tuple[Any, ...], __: Mapping[str, Any], outputs: tuple[Shape, ...]) -> Size:
        return math.prod(outputs[0]) * scale

    return resample


macs(aten.upsample_nearest2d)(_per_output(1))
macs(aten.upsample_bilinear2d, aten.grid_sampler)(_per_output(4))


@macs(aten.adaptive_avg_pool2d)
def _pool(args: tuple[Any, ...], _: Mapping[str, Any], __: tuple[Shape, ...]) -> Size:
    """One per input element. Every other pool is left uncounted, as fvcore leaves it."""
    return math.prod(args[0])


# What is left out

_ELEMENT_WISE = "element-wise"

# Base names of copies, constants and comparisons (fvcore ignores most of them); views are found by
# their schema.
_FREE = frozenset(
    """
    Int ScalarImplicit __and__ _assert_tensor_metadata _pack_padded_sequence
    _pad_packed_sequence _shape_as_tensor alpha_dropout arange bernoulli bitwise_not cat
    channel_shuffle chunk clamp clamp_max clamp_min clone col2im concat constant_pad_nd
    contiguous copy detach dropout dstack embedding empty empty_like eq eye feature_dropout fill
    flatten flip floor floor_divide full full_like gather ge getitem gt hstack im2col index
    index_put index_select item le lift_fresh lift_fresh_copy linspace lt masked_fill max
    meshgrid min narrow ne new_empty new_full new_ones new_zeros nonzero normal numel one_hot
    ones ones_like pad permute pixel_shuffle pixel_unshuffle rand rand_like randn randn_like
    relu remainder repeat repeat_interleave reshape roll rot90 scatter select size slice split
    split_with_sizes squeeze stack t take take_along_dim tile to transpose tril triu type_as
    unbind unfold unsafe_chunk unsafe_split unsqueeze view vstack zero zeros zeros_like
    """.split()  # noqa: SIM905  # a list of quoted names is harder to read
)

# Base names that do a few operations per element but lack torch's `pointwise` tag.
_PER_ELEMENT = frozenset(
    """
    _log_softmax _softmax _weight_norm all amax amin aminmax any argmax argmin argsort bucketize
    celu count_nonzero cumprod cumsum diff elu float_power glu hardshrink hardsigmoid hardswish
    hardtanh histc leaky_relu linalg_vector_norm log_sigmoid log_softmax logcumsumexp logsumexp
    mean median mish mode nan_to_num nansum norm prelu prod relu6 rrelu searchsorted selu
    sigmoid silu softmax softplus softshrink softsign sort std std_mean sum sum_to_size tanh
    tanhshrink threshold topk true_divide unique var var_mean
    """.split()  # noqa: SIM905  # a list of quoted names is harder to read
)


def uncounted(ops: Iterable[object]) -> dict[str, int]:
    """Count the operators that do arithmetic but have no formula, most frequent first.

    Args:
        ops: operators or qualified names, one per call.

    Returns:
        Base name -> calls; element-wise operators and reductions are summed up as `element-wise`,
        copies, views and constants are left out. An operator of unknown kind is named.
    """
    named: Counter[str] = Counter()
    for name, calls in Counter(_name(op) for op in ops).items():
        in_place = name.endswith("_") and not name.endswith("__")
        base = name.removesuffix("_") if in_place else name
        plain = base.removeprefix("aten::")
        if base in _FORMULAS or plain in _FREE or _is_view(base):
            continue
        named[_ELEMENT_WISE if _is_element_wise(base) else plain] += calls
    return dict(named.most_common())


def _overloads(name: str) -> list[torch._ops.OpOverload]:
    """List the overloads of an operator by its qualified name; none if torch does not know it."""
    namespace, _, base = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), base, None) if base else None
    return [getattr(packet, overload) for overload in packet.overloads()] if packet else []


def _is_view(name: str) -> bool:
    """Tell whether some overload only returns a view of its argument."""
    returns = [overload._schema.returns for overload in _overloads(name)]
    return any(
        part and all(r.alias_info is not None and not r.alias_info.is_write for r in part)
        for part in returns
    )


def _is_element_wise(name: str) -> bool:
    return name.removeprefix("aten::") in _PER_ELEMENT or any(
        torch.Tag.pointwise in overload.tags for overload in _overloads(name)
    )
