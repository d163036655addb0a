"""Linear layers and matrix products: contractions tie the contracted dimension and drop it."""

from collections.abc import Hashable, Sequence

import torch

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.shape import take_diagonal
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.linear.default)
def couple_linear(site: Site) -> Value:
    """Tie the input's features to the weight's columns; the result has its rows.

    Shapes: x (*, F_in); weight (F_out, F_in); bias (F_out,); result (*, F_out).
    Source: torch.nn.functional.linear.
    """
    x, weight, bias = site["input"], site["weight"], site["bias"]
    site.tie(x, -1, weight, -1)
    result = labels.drop_dims(site.store, x, [x.rank - 1])
    if weight.rank == 1:
        return result
    result = Value(site.shape, [*result.labels, site.labels(weight, 0)])
    if bias is not None and bias.rank:
        site.tie(result, -1, bias, 0)
    return result


@couples(
    aten.mm.default,
    aten.bmm.default,
    aten.matmul.default,
    aten.linalg_matmul.default,
    aten.mv.default,
    aten.dot.default,
    aten.vdot.default,
)
def couple_matmul(site: Site) -> Value:
    """Tie the contracted dimensions; batch dimensions broadcast.

    Shapes: a (*B, N, K); b (*B, K, M); result (*B, N, M).
    Source: torch.matmul.
    """
    a, b = site.values()
    return contract(site, a, b)


@couples(
    aten.addmm.default,
    aten.addmm_.default,
    aten.baddbmm.default,
    aten.baddbmm_.default,
    aten.addmv.default,
    aten.addmv_.default,
)
def couple_addmm(site: Site) -> Value:
    """Tie a product as `matmul` does, and the addend to it as `add` does.

    Source: torch.addmm, torch.baddbmm.
    """
    addend, a, b = site.values()
    product = contract(site, a, b)
    because = site.because("meets a dimension of fixed size")
    return labels.broadcast(site.store, [product, addend], site.shape, because)


def contract(site: Site, a: Value, b: Value) -> Value:
    """Multiply two values as matrices over their last two dimensions."""
    store = site.store
    if b.rank == 1:
        b = labels.insert_dim(store, b, 1)
        matrix = contract(site, a, b)
        return labels.drop_dims(store, matrix, [matrix.rank - 1])
    if a.rank == 1:
        a = labels.insert_dim(store, a, 0)
        matrix = contract(site, a, b)
        return labels.drop_dims(store, matrix, [matrix.rank - 2])
    because = site.because("meets a dimension of fixed size")
    # The contracted dimension may keep other indices in every batch entry (attention heads), but
    # not in every row of a matrix; nor may the rows' labels depend on it.
    labels.without_rows_on(store, a, [a.rank - 2, a.rank - 1])
    labels.without_rows_on(store, b, [b.rank - 2, b.rank - 1])
    outer_a, inner_a = _halves(store, a, keep=-2)
    outer_b, inner_b = _halves(store, b, keep=-1)
    rank = max(a.rank, b.rank)
    batch = tuple(
        max(
            a.shape[d - rank + a.rank] if d >= rank - a.rank else 1,
            b.shape[d - rank + b.rank] if d >= rank - b.rank else 1,
        )
        for d in range(rank - 2)
    )
    labels.broadcast(store, [inner_a, inner_b], (*batch, a.shape[-1]), because)
    rows = labels.insert_dim(store, outer_a, outer_a.rank)
    columns = labels.insert_dim(store, outer_b, outer_b.rank - 1)
    return labels.broadcast(store, [rows, columns], (*batch, a.shape[-2], b.shape[-1]), because)


def _halves(store: labels.Store, value: Value, *, keep: int) -> tuple[Value, Value]:
    """Separate the batch with the kept matrix dimension from the batch with the contracted one."""
    contracted = -3 - keep  # -1 <-> -2
    kept = [*range(value.rank - 2), value.rank + keep]
    inner = [*range(value.rank - 2), value.rank + contracted]
    return _only(store, value, kept), _only(store, value, inner)


def _only(store: labels.Store, value: Value, dims: list[int]) -> Value:
    """View a value's labels on some dimensions (no label depends on the others)."""
    position = {old: new for new, old in enumerate(dims)}
    chosen = [
        tuple(Label(x.ids, tuple(position[r] for r in x.rows)) for x in labels.of(store, value, d))
        for d in dims
    ]
    return Value(tuple(value.shape[d] for d in dims), list(chosen), origin=value.origin)


@couples(aten.addbmm.default)
def couple_addbmm(site: Site) -> Value:
    """Tie products as `bmm` does, add them up, and tie the addend. Source: torch.addbmm."""
    addend, a, b = site.values()
    product = labels.drop_dims(site.store, contract(site, a, b), [0])
    because = site.because("meets a dimension of fixed size")
    return labels.broadcast(site.store, [product, addend], site.shape, because)


@couples(aten.inner.default)
def couple_inner(site: Site) -> Value:
    """Tie the last dimensions and drop them; the others follow each other. Source: torch.inner."""
    a, b = site.values()
    if not (a.rank and b.rank):
        return a if a.rank else b
    right = [*(a.rank + d for d in range(b.rank - 1)), a.rank - 1]
    out = [*range(a.rank - 1), *right[:-1]]
    return _sum_of_products(site, [a, b], [range(a.rank), right], out)


@couples(aten.cdist.default)
def couple_distance(site: Site) -> Value:
    """Tie the features whose differences are summed; what is removed differs by nothing.

    Shapes: x1 (*B, P, F); x2 (*B, R, F); result (*B, P, R).
    Source: torch.cdist.
    """
    x1, x2 = site["x1"], site["x2"]
    order = [*range(x2.rank - 2), x2.rank - 1, x2.rank - 2]
    return contract(site, x1, labels.permute(site.store, x2, order))


@couples(aten.bilinear.default)
def couple_bilinear(site: Site) -> Value:
    """Tie both inputs' features to the weight's; the result has its rows.

    Shapes: x1 (*, F_1); x2 (*, F_2); weight (F_out, F_1, F_2); bias (F_out,); result (*, F_out).
    Source: torch.nn.functional.bilinear.
    """
    store, weight, bias = site.store, site["weight"], site["bias"]
    rest = []
    for name, dim in (("input1", 1), ("input2", 2)):
        x = site[name]
        site.tie(x, -1, weight, dim)
        rest.append(labels.drop_dims(store, x, [x.rank - 1]))
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(store, rest, site.shape[:-1], because)
    result = Value(site.shape, [*joint.labels, site.labels(weight, 0)])
    if bias is not None:
        site.tie(result, -1, bias, 0)
    return result


@couples(aten.cross.default, aten.linalg_cross.default)
def couple_cross(site: Site) -> Value:
    """Tie the operands; the dimension of three that is crossed stays.

    Source: torch.cross, torch.linalg.cross.
    """
    because = site.because("meets a dimension of fixed size")
    made = labels.broadcast(site.store, site.values(), site.shape, because)
    dim = site["dim"] if site["dim"] is not None else site.shape.index(3)
    site.freeze(made, [dim], "coordinates of a cross product")
    return made


@couples(aten.kron.default)
def couple_kron(site: Site) -> Value:
    """Give every dimension of the result the labels of both factors', the first outside.

    Shapes: a (*S), b (*T), dimensions of size 1 being put before the shorter; result (*S * T).
    Source: torch.kron.
    """
    store, rank = site.store, len(site.shape)
    pair = []
    for position, value in enumerate(site.values()):
        for _ in range(rank - value.rank):
            value = labels.insert_dim(store, value, 0)  # noqa: PLW2901  # the same factor
        for d in range(rank):  # a's dimensions become (n, 1) each, b's (1, n)
            value = labels.insert_dim(store, value, 2 * d + 1 - position)  # noqa: PLW2901
        pair.append(value)
    shape = tuple(max(n) for n in zip(*(v.shape for v in pair), strict=True))
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(store, pair, shape, because)
    return labels.merge(
        store, joint, [[2 * d, 2 * d + 1] for d in range(rank)], site.shape, because
    )


@couples(aten.outer.default, aten.ger.default)
def couple_outer(site: Site) -> Value:
    """Give the result the labels of both lines. Source: torch.outer."""
    return Value(site.shape, [site.labels(v, 0) for v in site.values()])


@couples(aten.linalg_vecdot.default)
def couple_vecdot(site: Site) -> Value:
    """Tie the operands and sum over one dimension. Source: torch.linalg.vecdot."""
    x, y = site.values()
    terms = [(*range(v.rank),) for v in (x, y)]
    rank = max(x.rank, y.rank)
    terms = [tuple(d + rank - v.rank for d in t) for t, v in zip(terms, (x, y), strict=True)]
    dim = site["dim"] % rank
    return _sum_of_products(site, [x, y], terms, [d for d in range(rank) if d != dim])


@couples(aten.tensordot.default)
def couple_tensordot(site: Site) -> Value:
    """Tie and drop the paired dimensions; the others follow each other. Source: torch.tensordot."""
    a, b = site["self"], site["other"]
    paired = [
        (i % a.rank, j % b.rank) for i, j in zip(site["dims_self"], site["dims_other"], strict=True)
    ]
    right = [a.rank + d for d in range(b.rank)]
    for i, j in paired:
        right[j] = i
    gone = {i for i, _ in paired}
    out = [d for d in (*range(a.rank), *right) if d not in gone]
    return _sum_of_products(site, [a, b], [range(a.rank), right], out)


@couples(aten.einsum.default)
def couple_einsum(site: Site) -> Value:
    """Tie every letter's dimensions; letters that the result lacks are contracted.

    Source: torch.einsum.
    """
    inputs, arrow, out = site["equation"].replace(" ", "").partition("->")
    terms = [
        _named(term, value.rank)
        for term, value in zip(inputs.split(","), site["tensors"], strict=True)
    ]
    operands = list(site["tensors"])
    for i, term in enumerate(terms):
        operands[i], terms[i] = _without_repeats(site, operands[i], term)
    hidden = max(sum(name.startswith(".") for name in term) for term in terms)
    dots = [_dot(back) for back in range(hidden, 0, -1)]
    if not arrow:  # an implicit result: the ellipsis, then letters that occur once
        once = sorted(c for c in set(inputs) - {",", "."} if inputs.count(c) == 1)
        result = [*dots, *once]
    else:
        before, ellipsis, after = out.partition("...")
        result = [*before, *(dots if ellipsis else ()), *after]
    return _sum_of_products(site, operands, terms, result)


def _without_repeats(site: Site, value: Value, term: list[str]) -> tuple[Value, list[str]]:
    """Take the diagonal of dimensions of equal name."""
    while len(set(term)) < len(term):
        first = next(i for i, name in enumerate(term) if term.count(name) > 1)
        second = term.index(term[first], first + 1)
        rest = [i for i in range(len(term)) if i not in (first, second)]
        shape = [*(value.shape[i] for i in rest), value.shape[first]]
        value = take_diagonal(site, value, first, second, 0, shape)
        term = [*(term[i] for i in rest), term[first]]
    return value, term


def _dot(back: int) -> str:
    """Name a dimension that an ellipsis stands for, counted from the ellipsis' end."""
    return f".{back}"


def _named(term: str, rank: int) -> list[str]:
    """Name the dimensions of one einsum operand."""
    before, ellipsis, after = term.partition("...")
    hidden = rank - len(before) - len(after) if ellipsis else 0
    return [*before, *(_dot(back) for back in range(hidden, 0, -1)), *after]


def _sum_of_products(
    site: Site,
    operands: Sequence[Value],
    terms: Sequence[Sequence[Hashable]],
    out: Sequence[Hashable],
) -> Value:
    """Tie dimensions of equal name, and keep those that the result names, in its order."""
    store = site.store
    names = list(dict.fromkeys(name for term in terms for name in term))
    sizes: dict[Hashable, int] = {}
    aligned = []
    for term, value in zip(terms, operands, strict=True):
        pairs = zip(term, value.shape, strict=True)
        sizes.update({name: n for name, n in pairs if n > 1 or name not in sizes})
        present = [name for name in names if name in term]
        moved = labels.permute(store, value, [list(term).index(name) for name in present])
        for position, name in enumerate(names):
            if name not in term:
                moved = labels.insert_dim(store, moved, position)
        aligned.append(moved)
    shape = tuple(sizes[name] for name in names)
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(store, aligned, shape, because)
    summed = [i for i, name in enumerate(names) if name not in out]
    rest = labels.drop_dims(store, joint, summed) if summed else joint
    order = [name for name in names if name in out]
    return labels.permute(store, rest, [order.index(name) for name in out])
