"""Element-wise operators and copies: every index of the result meets the same index of each operand.

Operators that torch tags as element-wise need no line here; those it does not are listed.
"""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(
    aten.add.Tensor,  # stands for all operators that torch tags as element-wise
    aten.hardswish_.default,
    aten.log_sigmoid.default,
    aten.polar.default,
    aten.copy_.default,
    aten.lerp.Tensor,
    aten.bernoulli.default,
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
    aten.feature_alpha_dropout.default,
    aten.native_dropout.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.detach_.default,
    aten.to.dtype,
    aten.to.device,
    aten.to.other,
    aten.to.dtype_layout,
    aten._to_copy.default,
    aten.lift_fresh_copy.default,
    aten.fill_.Scalar,
    aten.zero_.default,
    aten.bernoulli_.float,
    aten.uniform_.default,
    aten.normal_.default,
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


@couples(aten.fill_.Tensor)
def couple_fill(site: Site) -> Value:
    """Fill with one number, whatever the width."""
    return site.values()[0]  # type: ignore[no-any-return]  # values() holds Values


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
