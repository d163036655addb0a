"""Gathers, scatters and writes by index: indexed dimensions keep all their indices, others pass."""

from collections.abc import Sequence

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.index_select.default)
def couple_index_select(site: Site) -> Value:
    """Gather along one dimension, which keeps all its indices. Source: torch.index_select."""
    x = site["self"]
    dim = site["dim"] % max(x.rank, 1)
    site.freeze(x, [dim], "gathered by index, whose numbers would have to change")
    labels.without_rows_on(site.store, x, [dim])
    out = [() if d == dim else labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, list(out))


@couples(aten.index.Tensor, aten._unsafe_index.Tensor)
def couple_index(site: Site) -> Value:
    """Gather by index tensors: gathered dimensions keep all their indices, the others pass.

    Shapes: indices broadcast to (*I); they stand for the dimensions they replace when those are
    neighbours, else they come first.
    Source: torch.Tensor indexing, NumPy "Advanced indexing".
    """
    x, indices = site["self"], site["indices"]
    for value in indices:
        if value is not None:
            site.fix(value, range(value.rank))
    gathered = [d for d, value in enumerate(indices) if value is not None]
    site.fix(x, gathered, "gathered by index, whose numbers would have to change")
    labels.without_rows_on(site.store, x, gathered)
    passed = [d for d in range(x.rank) if d not in gathered]
    width = len(site.shape) - len(passed)
    neighbours = gathered == list(range(gathered[0], gathered[-1] + 1))
    start = gathered[0] if neighbours else 0
    result = labels.unlabelled(site.shape)
    for position, d in enumerate(passed):
        place = position if position < start else position + width
        result.labels[place] = labels.of(site.store, x, d)
    return result


def _hollow(site: Site, value: Value, dims: Sequence[int]) -> Value:
    """Freeze dimensions that are indexed and view them with size 1, so that the others can tie."""
    site.freeze(value, dims, "gathered or written by index")
    labels.without_rows_on(site.store, value, dims)
    kept = [() if d in dims else labels.of(site.store, value, d) for d in range(value.rank)]
    return Value(tuple(1 if d in dims else n for d, n in enumerate(value.shape)), list(kept))


def _tie(site: Site, values: Sequence[Value]) -> Value:
    """Tie values of equal rank; a dimension of size 1 broadcasts."""
    sizes = tuple(max(n) for n in zip(*(v.shape for v in values), strict=True))
    because = site.because("meets a dimension of fixed size")
    return labels.broadcast(site.store, values, sizes, because)


@couples(aten.gather.default)
def couple_gather(site: Site) -> Value:
    """Pick along one dimension; the others are tied to the index tensor's.

    Shapes: x (*S); index (*I), not larger than x but along `dim`; result (*I).
    Source: torch.gather.
    """
    x, index = site["self"], site["index"]
    if not x.rank:
        return labels.unlabelled(site.shape)
    dim = site["dim"] % x.rank
    cut = [d for d in range(x.rank) if d != dim and x.shape[d] != index.shape[d]]
    site.freeze(index, cut, "gathered or written by index")
    tied = _tie(site, [_hollow(site, x, [*cut, dim]), index])
    return Value(site.shape, tied.labels)


@couples(aten.take_along_dim.default)
def couple_take_along_dim(site: Site) -> Value:
    """Pick along one dimension; the others broadcast. Source: torch.take_along_dim."""
    x, index, dim = site["self"], site["indices"], site["dim"]
    if dim is None:
        site.freeze_all("gathered or written by index")
        return labels.unlabelled(site.shape)
    tied = _tie(site, [_hollow(site, x, [dim % x.rank]), index])
    return Value(site.shape, tied.labels)


@couples(
    aten.scatter.src,
    aten.scatter.value,
    aten.scatter.reduce,
    aten.scatter.value_reduce,
    aten.scatter_.src,
    aten.scatter_.value,
    aten.scatter_.reduce,
    aten.scatter_.value_reduce,
    aten.scatter_add.default,
    aten.scatter_add_.default,
    aten.scatter_reduce.two,
    aten.scatter_reduce_.two,
)
def couple_scatter(site: Site) -> Value:
    """Write along one dimension, which is frozen; the others are tied where equally long.

    Shapes: x (*S); index and source (*I), not larger; result like x.
    Source: torch.Tensor.scatter_.
    """
    values = site.values()
    x = values[0]
    if x.rank:
        dim = site["dim"] % x.rank
        cut = [d for d in range(x.rank) if d == dim or len({v.shape[d] for v in values}) > 1]
        _tie(site, [_hollow(site, v, cut) for v in values])
    return x


@couples(
    aten.index_add.default,
    aten.index_add_.default,
    aten.index_copy.default,
    aten.index_copy_.default,
    aten.index_fill.int_Scalar,
    aten.index_fill.int_Tensor,
    aten.index_fill_.int_Scalar,
    aten.index_fill_.int_Tensor,
    aten.index_reduce.default,
    aten.index_reduce_.default,
    aten.slice_scatter.default,
    aten.select_scatter.default,
)
def couple_index_write(site: Site) -> Value:
    """Write whole slices along one dimension, which is frozen; the others are tied.

    Shapes: x (*S); source like x but along `dim`, which `select_scatter`'s lacks.
    Source: torch.Tensor.index_add_, torch.slice_scatter, torch.select_scatter.
    """
    x = site["self"]
    dim = site["dim"] % max(x.rank, 1)
    tied = [_hollow(site, x, [dim])] if x.rank else []
    for name in ("source", "src"):
        if name in site.arguments:
            source = site[name]
            if source.rank < x.rank:
                source = labels.insert_dim(site.store, source, dim)
            tied.append(_hollow(site, source, [dim]))
    if len(tied) > 1:
        _tie(site, tied)
    return x  # type: ignore[no-any-return]  # a Value by the schema


@couples(aten.index_put.default, aten.index_put_.default, aten._unsafe_index_put.default)
def couple_index_put(site: Site) -> Value:
    """Write by index tensors: indexed dimensions are frozen, what follows is tied to the values.

    Shapes: x any; values broadcast to what the indices gather; a mask stands for as many dimensions
    as it has. Result like x.
    Source: torch.Tensor.index_put_.
    """
    x, values = site["self"], site["values"]
    given = [d for d, index in enumerate(site["indices"]) if index is not None]
    ranks = [site["indices"][d].rank for d in given]
    # Whether an index of several dimensions is a mask is not known here: as one it covers as many
    # dimensions of x, and what comes after them is the same either way.
    covered = given[0] + ranks[0] if len(given) == 1 else given[-1] + 1
    if len(given) > 1 and (max(ranks) > 1 or given != list(range(given[0], given[-1] + 1))):
        covered = x.rank
    covered = min(max(covered, given[0] + 1), x.rank)
    _hollow(site, x, range(covered))
    rest = labels.drop_dims(site.store, x, range(covered))
    ahead = range(max(values.rank - rest.rank, 0))
    _hollow(site, values, ahead)
    written = labels.drop_dims(site.store, values, ahead) if ahead else values
    because = site.because("meets a dimension of fixed size")
    labels.broadcast(site.store, [rest, written], rest.shape, because)
    return x  # type: ignore[no-any-return]  # a Value by the schema


@couples(aten.masked_select.default, aten.masked_scatter.default, aten.masked_scatter_.default)
def couple_masked(site: Site) -> Value:
    """Freeze all: elements are counted off in order. Source: torch.masked_select."""
    site.freeze_all("elements picked by a mask")
    return labels.unlabelled(site.shape)


@couples(
    aten.bucketize.Tensor,
    aten.bucketize.Scalar,
    aten.searchsorted.Tensor,
    aten.searchsorted.Scalar,
    aten.one_hot.default,
)
def couple_looked_up(site: Site) -> Value:
    """Freeze the table in which numbers become positions; the numbers' own dimensions pass.

    Shapes: boundaries (n,), for `searchsorted` (*S, n); numbers (*S); result like the numbers, with
    one more dimension for `one_hot`.
    Source: torch.bucketize, torch.searchsorted, torch.nn.functional.one_hot.
    """
    text = "table in which numbers are looked up"
    for name in ("boundaries", "sorted_sequence"):
        if name in site.arguments:
            site.freeze(site[name], range(site[name].rank), text)
    x = site["self"]
    if not hasattr(x, "rank"):  # one number
        return labels.unlabelled(site.shape)
    if "sorted_sequence" in site.arguments:
        cut = range(x.rank) if site["sorted_sequence"].rank > 1 else ()
        site.freeze(x, cut, text)
    found = [labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, [*found, *[()] * (len(site.shape) - x.rank)])


@couples(
    aten.item.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten.allclose.default,
)
def couple_read(site: Site) -> list[Value]:
    """Freeze what Python code reads as numbers (`.item()`, `.numpy()`, `if`): it sees the width.

    Source: torch.Tensor.item, torch.Tensor.numpy, torch.equal.
    """
    site.freeze_all("read as numbers by Python code")
    return []
