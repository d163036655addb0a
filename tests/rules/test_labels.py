"""The label algebra: what views, joins and cuts do to units, and what they refuse."""

from collections.abc import Callable

import numpy as np
import pytest

from shrink.core.groups import Label
from shrink.groups.resolve import resolve
from shrink.rules import labels
from shrink.rules.labels import Reason, Store, Value
from tests.rules.couplings import write

BECAUSE = Reason("crosses", "here")


def fresh(*shape: int) -> Value:
    """Make a value whose labels nobody has looked at."""
    return Value(shape, [None] * len(shape))


def after(*steps: Callable[[Store, Value], Value], shape: tuple[int, ...]) -> str:
    """Apply steps to a fresh value and write it and the result."""
    store, x = Store(), fresh(*shape)
    y = x
    for step in steps:
        y = step(store, y)
    return write(store, {"x": x, "y": y})


def view(*shape: int) -> Callable[[Store, Value], Value]:
    return lambda store, x: labels.reshape(store, x, shape, BECAUSE)


def order(*dims: int) -> Callable[[Store, Value], Value]:
    return lambda store, x: labels.permute(store, x, dims)


def take(dim: int, *indices: int) -> Callable[[Store, Value], Value]:
    return lambda store, x: labels.take(store, x, dim, np.array(indices))


@pytest.mark.parametrize(
    ("shape", "steps", "expected"),
    [
        ((2, 3), [view(2, 3)], "x0=y0:ab x1=y1:cde"),
        ((2, 2), [view(4)], "x0:ab x1:cd y0:aabb*cdcd"),
        ((4,), [view(2, 2)], "x0:aabb*cdef y0:ab y1:[cd|ef]0 {cd|ef}"),
        ((4,), [view(2, 2), view(4)], "x0=y0:aabb*cdef {cd|ef}"),
        ((2, 2), [view(4), view(2, 2)], "x0=y0:ab x1=y1:cd"),
        ((2, 3), [order(1, 0)], "x0=y1:ab x1=y0:cde"),
        ((4,), [view(2, 2), order(1, 0), view(4)], "x0:aabb*cdcd y0:ccdd*abab {cd|cd}"),
        ((2, 4), [view(8), view(2, 2, 2)], "x0=y0:ab x1:ccdd*efgh y1:cd y2:[ef|gh]1 {ef|gh}"),
        ((3,), [take(0, 2, 0, 2)], "x0:abc y0:cac"),
        ((4,), [view(2, 2), take(0, 1)], "x0:aabb*cdef y1:ef {cd|ef}"),
        ((4,), [view(2, 2), take(1, 1, 0)], "x0:aabb*cdef y0:ab y1:[dc|fe]0 {cd|ef}"),
    ],
    ids=[
        "nothing-to-do",
        "merge",
        "split",
        "split-and-merge-is-identity",
        "merge-and-split-is-identity",
        "permute",
        "channel-shuffle",
        "split-of-a-merge",
        "gather-repeats",
        "gather-one-head",
        "gather-inside-heads",
    ],
)
def test_views(
    shape: tuple[int, ...], steps: list[Callable[[Store, Value], Value]], expected: str
) -> None:
    assert after(*steps, shape=shape) == expected


def test_a_fused_projection_has_three_parts_of_heads_of_dims() -> None:
    heads = after(view(3, 2, 2), shape=(12,))
    assert heads == (
        "x0:aaaabbbbcccc*ddeeffgghhii*jklmnopqrstu y0:abc y1:[de|fg|hi]0 "
        "y2:[jk|lm|no|pq|rs|tu]01 {de|fg|hi} {jk|lm|no|pq|rs|tu}"
    )


def test_batch_and_heads_in_one_dimension_keep_the_heads() -> None:
    """(batch, heads * head_dim) seen as (batch * heads, head_dim), as torch's attention does."""
    merged = after(view(2, 3, 2), view(6, 2), view(2, 3, 2), shape=(2, 6))
    assert merged.startswith("x0=y0:ab x1:ccddee*fghijk y1:cde y2:[fg|hi|jk]1")


def test_equal_views_refine_to_the_same_units() -> None:
    store, x = Store(), fresh(6)
    a, b = (labels.reshape(store, x, (2, 3), BECAUSE) for _ in range(2))
    before = store.count
    labels.broadcast(store, [a, b], (2, 3), BECAUSE)
    assert write(store, {"a": a, "b": b}) == "a0=b0:ab a1=b1:[cde|fgh]0 {cde|fgh}"
    assert store.count == before


def test_two_different_views_of_one_dimension_agree() -> None:
    """Rows of three in one view and rows of two in another leave only what suits both."""
    store, x = Store(), fresh(6)
    labels.reshape(store, x, (2, 3), BECAUSE)
    labels.reshape(store, x, (3, 2), BECAUSE)
    resolution = resolve(store)
    (label,) = labels.of(store, x, 0)
    assert len(resolution.expand(label.ids)) >= 1
    assert all((units >= 0).all() for units in resolution.expand(label.ids))


@pytest.mark.parametrize(("shape", "target"), [((2, 3), (3, 2)), ((4, 6), (6, 4))])
def test_a_view_that_crosses_is_frozen_with_the_reason(
    shape: tuple[int, ...], target: tuple[int, ...]
) -> None:
    store = Store()
    x = Value(shape, [(Label(store.mint(n)),) for n in shape])
    y = labels.reshape(store, x, target, BECAUSE)
    assert y.labels == [(), ()]
    assert write(store, {"x": x, "y": y}) == "!crosses: x0 x1"


def test_dims_outside_a_crossing_pass() -> None:
    text = after(view(2, 3, 2, 2), shape=(2, 2, 3, 2))
    assert text == "x0=y0:ab x3=y3:cd !crosses: x1 x2"


def test_concatenation_joins_one_dimension_and_ties_the_others() -> None:
    store, a, b = Store(), fresh(2, 2), fresh(2, 1)
    joined = labels.concatenate(store, [a, b, a], 1, BECAUSE)
    assert joined.shape == (2, 5)
    assert write(store, {"a": a, "b": b, "y": joined}) == "a0=b0=y0:ab a1:cd y1:cd-cd"


def test_broadcast_ties_from_the_right_and_skips_size_one() -> None:
    store, a, b = Store(), fresh(2, 3, 2), fresh(3, 1)
    result = labels.broadcast(store, [a, b], (2, 3, 2), BECAUSE)
    assert write(store, {"a": a, "b": b, "y": result}) == "a0=y0:ab a1=b0=y1:cde a2=y2:fg"


def test_broadcast_with_a_fixed_dimension_freezes() -> None:
    store = Store()
    a = Value((3,), [(Label(store.mint(3)),)])
    labels.broadcast(store, [a, labels.unlabelled((3,))], (3,), BECAUSE)
    assert write(store, {"a": a}) == "!crosses: a0"


def test_ties_are_transitive_and_the_first_reason_is_kept() -> None:
    store = Store()
    a, b, c = (store.mint(3) for _ in range(3))
    assert store.tie(a, b)
    assert store.tie(b, c)
    assert not store.tie(a, c)
    store.freeze(c[:1], Reason("first"))
    store.freeze(a[:1], Reason("second"))
    values = {"a": Value((3,), [(Label(a),)]), "c": Value((3,), [(Label(c),)])}
    assert write(store, values) == "a0=c0:-ab !first: a0 c0"


def test_frozen_units_freeze_what_they_are_split_into() -> None:
    store = Store()
    x = Value((4,), [(Label(store.mint(4)),)])
    y = labels.reshape(store, x, (2, 2), BECAUSE)
    labels.freeze_dim(store, x, 0, Reason("output"))
    assert write(store, {"x": x, "y": y}) == "!output: x0 y0 y1"


def test_dropping_a_dimension_flattens_what_depends_on_it() -> None:
    """Summing over heads leaves head dims that all heads share."""
    text = after(view(2, 2), lambda s, x: labels.drop_dims(s, x, [0]), shape=(4,))
    assert text == "x0:aabb*cdcd y0:cd {cd|cd}"
