"""Element-wise operators and copies: an index of the result meets the same one of each operand.

Operators that torch tags as element-wise need no line here; those it does not are listed.
"""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


# Base names of element-wise operators that torch does not tag as such: aliases and in-place forms.
_UNTAGGED = """
    __and__ __iand__ __ior__ __or__ _conj abs_ absolute absolute_ arccos arccos_ arccosh arccosh_
    arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan2_ arctan_ arctanh arctanh_ bernoulli
    complex conj copy_ copysign_ divide divide_ eq_ fix fix_ floor_divide floor_divide_ gcd_ ge_
    gelu_ greater greater_ greater_equal greater_equal_ gt_ hardswish hardswish_ heaviside_ imag
    isclose isreal lcm_ le_ less less_ less_equal less_equal_ log_sigmoid lt_ masked_fill
    masked_fill_ mish_ multiply multiply_ ne_ negative negative_ not_equal not_equal_ polar real
    relu6_ resolve_conj resolve_neg rrelu_ rsub subtract subtract_ threshold_ true_divide
    true_divide_ where xlogy_
""".split()  # noqa: SIM905  # a list of quoted names is harder to read


def _overloads(names: list[str]) -> list[object]:
    """List the overloads of operators that return what they compute."""
    packets = [getattr(aten, name) for name in names]
    found = [getattr(p, overload) for p in packets for overload in p.overloads()]
    return [f for f in found if not any(a.is_out for a in f._schema.arguments)]


@couples(
    aten.add.Tensor,  # stands for all operators that torch tags as element-wise
    aten.lerp.Tensor,
    *(op for op in _overloads(_UNTAGGED) if op is not aten.where.default),
)
def couple_broadcast(site: Site) -> Value | list[Value]:
    """Tie the operands' dimensions, aligned from the right; a dimension of size 1 broadcasts.

    Source: "Broadcasting semantics", torch documentation.
    """
    because = site.because("meets a dimension of fixed size")
    made = [labels.broadcast(site.store, site.values(), s, because) for s in site.shapes]
    return made[0] if len(made) == 1 else made


@couples(
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.alpha_dropout.default,
    aten.alpha_dropout_.default,
    aten.feature_alpha_dropout.default,
    aten.feature_alpha_dropout_.default,
    aten.native_dropout.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.detach_.default,
    aten.requires_grad_.default,
    aten.lift.default,
    aten.lift_fresh.default,
    aten.to.dtype,
    aten.to.device,
    aten.to.other,
    aten.to.dtype_layout,
    aten._to_copy.default,
    aten.lift_fresh_copy.default,
    aten.fill_.Scalar,
    aten.fill.Scalar,
    aten.zero_.default,
    aten.bernoulli_.float,
    aten.uniform_.default,
    aten.normal_.default,
    aten.exponential_.default,
    aten.cauchy_.default,
    aten.geometric_.default,
    aten.log_normal_.default,
    aten.renorm.default,  # a length to which what is removed adds nothing
    aten.renorm_.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.rand_like.default,
    aten.randn_like.default,
)
def couple_same(site: Site) -> Value | list[Value]:
    """Pass the first tensor's labels on: the result has its shape, index by index."""
    first = site.values()[0]
    return first if len(site.shapes) == 1 else [first for _ in site.shapes]


@couples(
    aten.type_as.default,
    aten.to.prim_Device,
    aten._assert_tensor_metadata.default,
    aten._assert_async.msg,
)
def couple_first_only(site: Site) -> Value | list[Value]:
    """Pass the first tensor's labels on; of other arguments only type or device are read."""
    return site.values()[0] if site.shapes else []


@couples(aten.fill_.Tensor, aten.fill.Tensor)
def couple_fill(site: Site) -> Value:
    """Fill with one number, whatever the width."""
    return site.values()[0]


@couples(aten.glu.default)
def couple_glu(site: Site) -> Value:
    """Tie the two halves of a dimension: index i of one gates index i of the other.

    Shapes: x (*, 2 n, *S); result (*, n, *S).
    Source: torch.nn.functional.glu.
    """
    x, dim = site["self"], site["dim"] % site["self"].rank
    labels.flat(site.store, x, dim)
    half = x.shape[dim] // 2
    parts = [labels.take(site.store, x, dim, cut) for cut in (slice(half), slice(half, None))]
    because = site.because("meets a dimension of fixed size")
    return labels.broadcast(site.store, parts, site.shape, because)


@couples(aten.prelu.default)
def couple_prelu(site: Site) -> Value:
    """Tie the slopes to the channels, unless one slope serves all.

    Shapes: self (N, C, *S); weight (C,) or (1,).
    Source: torch.nn.functional.prelu.
    """
    x, weight = site["self"], site["weight"]
    if weight.rank and weight.shape[0] > 1:
        site.tie(x, min(1, x.rank - 1), weight, 0)
    return x  # type: ignore[no-any-return]  # a Value by the schema
