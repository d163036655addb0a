"""Linear layers and matrix products: contractions tie the contracted dimension and drop it."""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
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
    if bias is not None:
        if bias.rank:
            site.tie(result, -1, bias, 0)
    return result


@couples(aten.mm.default, aten.bmm.default, aten.matmul.default, aten.mv.default, aten.dot.default)
def couple_matmul(site: Site) -> Value:
    """Tie the contracted dimensions; batch dimensions broadcast.

    Shapes: a (*B, N, K); b (*B, K, M); result (*B, N, M).
    Source: torch.matmul.
    """
    a, b = site.values()
    return contract(site, a, b)


@couples(aten.addmm.default, aten.baddbmm.default, aten.addmv.default)
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
        tuple(
            labels.Label(x.ids, tuple(position[r] for r in x.rows))
            for x in labels.of(store, value, d)
        )
        for d in dims
    ]
    return Value(tuple(value.shape[d] for d in dims), list(chosen))


@couples(aten.einsum.default)
def couple_einsum(site: Site) -> Value:
    """Tie every letter's dimensions; letters that the result lacks are contracted.

    Source: torch.einsum.
    """
    store, operands = site.store, site["tensors"]
    equation = site["equation"].replace(" ", "")
    if "." in equation or "->" not in equation:
        site.freeze_all("einsum with an ellipsis or an implicit result")
        return labels.unlabelled(site.shape)
    terms, out = equation.split("->")
    letters = sorted(set(terms) - {","})
    sizes: dict[str, int] = {}
    aligned = []
    for term, value in zip(terms.split(","), operands, strict=True):
        if len(set(term)) != len(term):
            site.freeze_all("einsum takes a diagonal")
            return labels.unlabelled(site.shape)
        sizes.update({c: n for c, n in zip(term, value.shape, strict=True) if n > 1})
        present = [c for c in letters if c in term]
        moved = labels.permute(store, value, [term.index(c) for c in present])
        for position, c in enumerate(letters):
            if c not in term:
                moved = labels.insert_dim(store, moved, position)
        aligned.append(moved)
    shape = tuple(sizes.get(c, 1) for c in letters)
    because = site.because("meets a dimension of fixed size")
    joint = labels.broadcast(store, aligned, shape, because)
    summed = [i for i, c in enumerate(letters) if c not in out]
    rest = labels.drop_dims(store, joint, summed) if summed else joint
    order = [c for c in letters if c in out]
    return labels.permute(store, rest, [order.index(c) for c in out])
