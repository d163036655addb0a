"""Calls by name and back: what a call of an operator needs is never left out."""

import pytest
import torch

from shrink.rules.site import bind, unbind

aten = torch.ops.aten
X = torch.ones(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("operator", "args", "expected"),
    [
        (aten.add.Tensor, (X, X), (X, X)),
        (aten.sum.dim_IntList, (X, [1], False), (X, [1])),
        (aten.upsample_nearest2d.vec, (X, [2, 2], None), (X, [2, 2], None)),
    ],
    ids=["whole", "default-left-out", "none-that-is-no-default"],
)
def test_a_call_is_written_as_short_as_the_schema_allows(
    operator: object, args: tuple[object, ...], expected: tuple[object, ...]
) -> None:
    written, kwargs = unbind(operator, bind(operator, args, {}))
    assert len(written) == len(expected)
    assert all(a is b or a == b for a, b in zip(written, expected, strict=True))
    assert kwargs == {}
    assert operator(*written, **kwargs).equal(operator(*args))  # type: ignore[operator]  # one
