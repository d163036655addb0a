"""Views, joins, cuts and gathers: they move labels and mint none."""

from collections.abc import Sequence

import numpy as np
import torch

from shrink.rules import labels
from shrink.rules.labels import Label, Value
from shrink.rules.norm import balance_parts
from shrink.rules.registry import couples, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten

_RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.reshape_as.default,
    aten.view_as.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.unsqueeze.default,
)


@couples(*_RESHAPES)
def couple_reshape(site: Site) -> Value:
    """Split and merge dimensions; a merged dimension carries the labels of all it was made from.

    Shapes: x any; result any of as many elements.
    Source: torch.Tensor.view, torch.flatten, torch.unflatten.
    """
    because = site.because("a view cuts across channels")
    return labels.reshape(site.store, site["self"], site.shape, because)


@resizes(aten.view.default, aten.reshape.default, aten._unsafe_view.default)
def resize_view(call: Call) -> Resized:
    """Name the sizes that are left; -1 stays."""
    name = "shape" if "shape" in call.arguments else "size"
    pairs = zip(call[name], call.after[0], strict=True)
    return call.replace(**{name: [old if old == -1 else new for old, new in pairs]})


@resizes(aten.unflatten.int)
def resize_unflatten(call: Call) -> Resized:
    """Name the sizes that are left; -1 stays."""
    (before,) = call.inputs_before.values()
    start = call["dim"] % len(before)
    after = call.after[0][start : start + len(call["sizes"])]
    pairs = zip(call["sizes"], after, strict=True)
    return call.replace(sizes=[old if old == -1 else new for old, new in pairs])


@couples(aten.permute.default)
def couple_permute(site: Site) -> Value:
    """Reorder dimensions. Source: torch.permute."""
    return labels.permute(site.store, site["self"], site["dims"])


@couples(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def couple_transpose(site: Site) -> Value:
    """Swap two dimensions. Source: torch.transpose."""
    x = site["self"]
    a, b = (d % max(x.rank, 1) for d in list(site.arguments.values())[1:3])
    order = list(range(x.rank))
    order[a], order[b] = b, a
    return labels.permute(site.store, x, order)


@couples(aten.t.default, aten.numpy_T.default, aten.mT.default)
def couple_t(site: Site) -> Value:
    """Swap the last two dimensions. Source: torch.t."""
    x = site["self"]
    order = list(range(x.rank))
    order[-2:] = reversed(order[-2:])
    return labels.permute(site.store, x, order)


@couples(aten.movedim.int, aten.movedim.intlist)
def couple_movedim(site: Site) -> Value:
    """Move dimensions to other places. Source: torch.movedim."""
    x = site["self"]
    source, target = (
        [d % x.rank for d in ([v] if isinstance(v, int) else v)]
        for v in (site["source"], site["destination"])
    )
    order = [d for d in range(x.rank) if d not in source]
    for to, origin in sorted(zip(target, source, strict=True)):
        order.insert(to, origin)
    return labels.permute(site.store, x, order)


@couples(aten.expand.default, aten.expand_as.default)
def couple_expand(site: Site) -> Value:
    """Repeat dimensions of size 1: the copies are alike, so that any of them may be removed.

    Shapes: x (*S); result (*T, *S') with S' = S but where S is 1.
    Source: torch.Tensor.expand.
    """
    x, shape = site["self"], site.shape
    other = site.arguments.get("other")
    offset = len(shape) - x.rank
    moved = x
    for _ in range(offset):
        moved = labels.insert_dim(site.store, moved, 0)
    out = [labels.of(site.store, moved, d) for d in range(len(shape))]
    for d, size in enumerate(shape):
        if moved.shape[d] != size:
            like = isinstance(other, Value)
            out[d] = site.labels(other, d) if like else (Label(site.store.mint(size)),)
    return Value(shape, list(out))


@resizes(aten.expand.default)
def resize_expand(call: Call) -> Resized:
    """Name the sizes that are left; -1 stays."""
    pairs = zip(call["size"], call.after[0], strict=True)
    return call.replace(size=[old if old == -1 else new for old, new in pairs])


@couples(aten.repeat.default, aten.tile.default)
def couple_repeat(site: Site) -> Value:
    """Tile a tensor; a tiled dimension carries its labels once per copy.

    Source: torch.Tensor.repeat.
    """
    store, x, shape = site.store, site["self"], site.shape
    for _ in range(len(shape) - x.rank):
        x = labels.insert_dim(store, x, 0)
    out = []
    for d, size in enumerate(shape):
        times = size // x.shape[d]
        if times == 1:
            out.append(labels.of(store, x, d))
        else:
            labels.without_rows_on(store, x, [d])
            out.append(tuple(Label(np.tile(y.ids, times)) for y in labels.flat(store, x, d)))
    return Value(shape, list(out))


@couples(aten.repeat_interleave.self_int)
def couple_repeat_interleave(site: Site) -> Value:
    """Repeat every index of one dimension. Source: torch.repeat_interleave."""
    x, dim = site["self"], site["dim"]
    if dim is None:
        site.freeze_all("repeat_interleave without a dimension")
        return labels.unlabelled(site.shape)
    indices = np.repeat(np.arange(x.shape[dim]), site["repeats"])
    return labels.take(site.store, x, dim, indices)


@couples(aten.cat.default, aten.concat.default)
def couple_cat(site: Site) -> Value:
    """Join labels along one dimension and tie all others. Source: torch.cat."""
    values = [v for v in site["tensors"] if v.shape != (0,)]
    because = site.because("joined with a dimension of fixed size")
    return labels.concatenate(site.store, values, site["dim"], because)


@couples(aten.stack.default)
def couple_stack(site: Site) -> Value:
    """Tie all dimensions and add one, whose indices are the operands. Source: torch.stack."""
    rank = len(site.shape)
    dim = site["dim"] % rank
    values = [labels.insert_dim(site.store, v, dim) for v in site["tensors"]]
    because = site.because("joined with a dimension of fixed size")
    return labels.concatenate(site.store, values, dim, because)


@couples(aten.slice.Tensor)
def couple_slice(site: Site) -> Value:
    """Cut a range out of one dimension. Source: torch.Tensor indexing."""
    x, dim = site["self"], site["dim"] % max(site["self"].rank, 1)
    cut = slice(site["start"], site["end"], site["step"])
    if len(np.arange(x.shape[dim])[cut]) == x.shape[dim]:
        return x  # type: ignore[no-any-return]  # a Value by the schema
    if site["step"] != 1:
        site.freeze(x, [dim], "every n-th index is taken")
    labels.flat(site.store, x, dim)
    _keep_one(site, x, dim, cut)
    return labels.take(site.store, x, dim, cut)


def _keep_one(site: Site, x: Value, dim: int, cut: slice) -> None:
    """Keep the index of a cut that has only one: an empty tensor is not the same function."""
    if len(np.arange(x.shape[dim])[cut]) == 1:
        for label in labels.of(site.store, x, dim):
            site.store.freeze(label.ids[..., cut], site.because("the only index of a slice"))


@resizes(aten.slice.Tensor)
def resize_slice(call: Call) -> Resized:
    """Count what is left before the start and before the end."""
    kept = call.kept["self"][call["dim"]]
    if kept is None or kept.all():
        return call.replace()
    start, end, _ = slice(call["start"], call["end"], call["step"]).indices(len(kept))
    changed = {}
    if call["start"] is not None:
        changed["start"] = _position(call["start"], start, kept)
    if call["end"] is not None and call["end"] < len(kept):
        changed["end"] = _position(call["end"], end, kept)
    return call.replace(**changed)


def _position(written: int, index: int, kept: np.ndarray) -> int:
    """Translate an index, counted from the end if it was written so."""
    return int(kept[:index].sum()) if written >= 0 else -int(kept[index:].sum())


@couples(aten.select.int)
def couple_select(site: Site) -> Value:
    """Take one index of a dimension, which then cannot be removed. Source: torch.select."""
    x, index = site["self"], site["index"]
    dim = site["dim"] % x.rank
    index %= x.shape[dim]
    for label in labels.of(site.store, x, dim):
        site.store.freeze(label.ids[..., index], site.because("index taken by itself"))
    picked = labels.take(site.store, x, dim, np.array([index]))
    return labels.drop_dims(site.store, picked, [dim])


@resizes(aten.select.int)
def resize_select(call: Call) -> Resized:
    """Count what is left before the index."""
    kept = call.kept["self"][call["dim"]]
    if kept is None or kept.all():
        return call.replace()
    return call.replace(index=_position(call["index"], call["index"] % len(kept), kept))


@couples(aten.unbind.int)
def couple_unbind(site: Site) -> list[Value]:
    """Take every index of a dimension by itself. Source: torch.unbind."""
    x = site["self"]
    dim = site["dim"] % x.rank
    site.freeze(x, [dim], "index taken by itself")
    made = []
    for index in range(x.shape[dim]):
        picked = labels.take(site.store, x, dim, np.array([index]))
        made.append(labels.drop_dims(site.store, picked, [dim]))
    return made


@couples(aten.chunk.default)
def couple_chunk(site: Site) -> list[Value]:
    """Cut a dimension into equal parts, which keep equally many indices. Source: torch.chunk."""
    x = site["self"]
    dim = site["dim"] % x.rank
    sizes = [s[dim] for s in site.shapes]
    if len(set(sizes)) == 1:
        balance_parts(site, x, dim, len(sizes))
    else:
        site.freeze(x, [dim], "cut into parts of different size")
    return _cut(site, x, dim, sizes)


@couples(aten.split.Tensor)
def couple_split(site: Site) -> list[Value]:
    """Cut a dimension into parts of one size, which keep equally many. Source: torch.split."""
    return couple_chunk(site)


@resizes(aten.split.Tensor)
def resize_split(call: Call) -> Resized:
    """Name the size that is left of a part."""
    (before,) = call.inputs_before.values()
    return call.replace(split_size=call.after[0][call["dim"] % len(before)])


@couples(aten.split_with_sizes.default, aten.split.sizes, aten.tensor_split.indices)
def couple_split_with_sizes(site: Site) -> list[Value]:
    """Cut a dimension into parts of given sizes. Source: torch.split, torch.tensor_split."""
    x = site["self"]
    dim = site["dim"] % x.rank
    return _cut(site, x, dim, [s[dim] for s in site.shapes])


def _cut(site: Site, x: Value, dim: int, sizes: Sequence[int]) -> list[Value]:
    labels.flat(site.store, x, dim)
    made, start = [], 0
    for size in sizes:
        cut = slice(start, start + size)
        _keep_one(site, x, dim, cut)
        made.append(labels.take(site.store, x, dim, cut))
        start += size
    return made


@resizes(aten.split_with_sizes.default)
def resize_split_with_sizes(call: Call) -> Resized:
    """Name the sizes that are left."""
    (before,) = call.inputs_before.values()
    dim = call["dim"] % len(before)
    return call.replace(split_sizes=[s[dim] for s in call.after])


@resizes(aten.tensor_split.indices)
def resize_tensor_split(call: Call) -> Resized:
    """Count what is left before each cut."""
    (before,) = call.inputs_before.values()
    dim = call["dim"] % len(before)
    ends = np.cumsum([s[dim] for s in call.after])[:-1]
    return call.replace(indices=[int(n) for n in ends])


@couples(aten.pad.default, aten.constant_pad_nd.default)
def couple_pad(site: Site) -> Value:
    """Add positions; a padded dimension keeps all its indices. Source: torch.nn.functional.pad."""
    x, pad = site["self"], list(site["pad"])
    padded = [x.rank - 1 - i // 2 for i, n in enumerate(pad) if n]
    site.freeze(x, padded, "padded dimension")
    labels.without_rows_on(site.store, x, padded)
    out = [() if d in padded else labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, list(out))


@couples(aten.index_select.default)
def couple_index_select(site: Site) -> Value:
    """Gather along one dimension, which keeps all its indices. Source: torch.index_select."""
    x = site["self"]
    dim = site["dim"] % max(x.rank, 1)
    site.freeze(x, [dim], "gathered by index")
    labels.without_rows_on(site.store, x, [dim])
    out = [() if d == dim else labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, list(out))


@couples(aten.index.Tensor)
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
    site.fix(x, gathered)
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

