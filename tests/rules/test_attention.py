"""Fused attention: heads are tied throughout, dims of queries to those of keys."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shrink.rules.attention import resize_attention
from shrink.rules.site import Call, bind
from tests.rules.couplings import read

aten = torch.ops.aten
attend = functional.scaled_dot_product_attention


def packed(x: Tensor) -> Tensor:
    """Attend with queries, keys and values viewed as (3, heads, head_dim)."""
    q, k, v = x.view(1, 2, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    return attend(q, k, v).transpose(1, 2).reshape(1, 2, 4)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, enable_gqa=True)


def grouped_and_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return attend(q, k, v, attn_mask=mask, enable_gqa=True)


ROWS = [
    pytest.param(
        grouped_and_masked,
        [(1, 4, 1, 1), (1, 2, 2, 1), (1, 2, 2, 1), (1, 4, 1, 2)],
        "x1=u1=out1:aabb*cdef y1=z1:ab {cd|ef} !position attended to: y2 z2 u3",
        id="grouped-with-a-mask-per-head",
    ),
    pytest.param(
        attend,
        [(1, 2, 1, 3), (1, 2, 2, 3), (1, 2, 2, 2)],
        "x1=y1=z1=out1:ab x3=y3:cde z3=out3:fg !position attended to: y2 z2",
        id="heads",
    ),
    pytest.param(
        attend,
        [(2, 3), (2, 3), (2, 2)],
        "x0=out0:ab x1=y1:cde z1=out1:fg !position attended to: y0 z0",
        id="no-heads",
    ),
    pytest.param(
        lambda q, k, v, mask: attend(q, k, v, attn_mask=mask),
        [(1, 2, 2, 2), (1, 2, 2, 2), (1, 2, 2, 2), (2, 2, 2)],
        "x1=y1=z1=u0=out1:ab x2=u1=out2:cd x3=y3:ef z3=out3:gh !position attended to: y2 z2 u2",
        id="mask-per-head",
    ),
    pytest.param(
        grouped,
        [(1, 4, 1, 2), (1, 2, 1, 2), (1, 2, 1, 2)],
        "x1=out1:aabb*cdef x3=y3:gh y1=z1:ab z3=out3:ij {cd|ef}",
        id="query-heads-share-keys",
    ),
    pytest.param(
        lambda q, k, v: aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2],
        [(1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)],
        "x1=y1=z1=outa1=outb1:ab !position of a fused kernel: x2 outa2 "
        "!head dims of a fused kernel: x3 y3 z3 outa3 !position attended to: y2 z2",
        id="fused-on-the-cpu",
    ),
    pytest.param(
        packed,
        [(1, 2, 12)],
        "x2:aabbaabbaabb*cdefcdefghij out2:aabb*ghij {ab|ab|ab} {cd|ef|cd|ef|gh|ij} "
        "!position attended to: x1 out1",
        id="packed-projection",
    ),
    pytest.param(
        lambda x: nn.functional.softmax(x @ x.mT, -1) @ x,
        [(1, 2, 2)],
        "x1=out1:ab x2=out2:cd",
        id="written-out",
    ),
]

ON_CUDA = [  # labelled, but run nowhere else
    pytest.param(
        lambda q, k, v: aten._scaled_dot_product_flash_attention(q, k, v)[0],
        [(1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)],
        "x1=y1=z1=out1:ab !position of a fused kernel: x2 out2 "
        "!head dims of a fused kernel: x3 y3 z3 out3 !position attended to: y2 z2",
        id="flash",
    ),
    pytest.param(
        lambda q, k, v: aten._scaled_dot_product_efficient_attention(
            q, k, v, None, compute_log_sumexp=True
        )[0],
        [(1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)],
        "x1=y1=z1=out1:ab !position of a fused kernel: x2 out2 "
        "!head dims of a fused kernel: x3 y3 z3 out3 !position attended to: y2 z2",
        id="efficient",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), [*ROWS, *ON_CUDA])
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected


@pytest.mark.parametrize(
    ("scale", "after", "expected"),
    [(None, 8, 0.25), (None, 16, None), (0.5, 8, 0.5)],
    ids=["default-is-written-down", "same-width", "given-stays"],
)
def test_the_scale_stays_that_of_the_original_width(
    scale: float | None, after: int, expected: float | None
) -> None:
    operator = torch.ops.aten.scaled_dot_product_attention.default
    before, now = (1, 2, 5, 16), (1, 2, 5, after)
    call = Call(
        operator,
        bind(operator, ("q", "k", "v"), {"scale": scale}),
        (before,),
        (before,),
        {"query": before, "key": before},
        {"query": now, "key": now},
        {},
    )
    assert resize_attention(call).arguments["scale"] == expected
