"""Views, joins, cuts and gathers: they move labels and mint none."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Value
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
    aten.squeeze_.dim,
    aten.squeeze_.dims,
    aten.squeeze_.default,
    aten.unsqueeze_.default,
    aten.ravel.default,
    aten.atleast_1d.default,
    aten.atleast_2d.default,
    aten.atleast_3d.default,
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
    changed: dict[str, Any] = {name: [old if old == -1 else new for old, new in pairs]}
    return call.replace(**changed)


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


@couples(
    aten.transpose.int,
    aten.transpose_.default,
    aten.swapaxes.default,
    aten.swapaxes_.default,
    aten.swapdims.default,
    aten.swapdims_.default,
)
def couple_transpose(site: Site) -> Value:
    """Swap two dimensions. Source: torch.transpose."""
    x = site["self"]
    a, b = (d % max(x.rank, 1) for d in list(site.arguments.values())[1:3])
    order = list(range(x.rank))
    order[a], order[b] = b, a
    return labels.permute(site.store, x, order)


@couples(aten.t.default, aten.t_.default, aten.mT.default, aten.mH.default, aten.adjoint.default)
def couple_t(site: Site) -> Value:
    """Swap the last two dimensions. Source: torch.t."""
    x = site["self"]
    order = list(range(x.rank))
    order[-2:] = reversed(order[-2:])
    return labels.permute(site.store, x, order)


@couples(aten.numpy_T.default, aten.matrix_H.default)
def couple_reversed(site: Site) -> Value:
    """Reverse the order of all dimensions. Source: torch.Tensor.T."""
    x = site["self"]
    return labels.permute(site.store, x, list(reversed(range(x.rank))))


@couples(aten.movedim.int, aten.movedim.intlist, aten.moveaxis.int, aten.moveaxis.intlist)
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


@couples(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def couple_expand(site: Site) -> Value:
    """Repeat dimensions of size 1: the copies are alike, so that any of them may be removed.

    What another tensor gives the sizes of goes with that tensor.

    Shapes: x (*S); result (*T, *S') with S' = S but where S is 1.
    Source: torch.Tensor.expand.
    """
    x, shape = site["self"], site.shape
    other = site.arguments.get("other")
    offset = len(shape) - x.rank
    moved = x
    for _ in range(offset):
        moved = labels.insert_dim(site.store, moved, 0)
    for d, size in enumerate(shape):
        if other is not None and moved.shape[d] == size > 1:
            site.tie(moved, d, other, d)
    out = [labels.of(site.store, moved, d) for d in range(len(shape))]
    for d, size in enumerate(shape):
        if moved.shape[d] != size:
            out[d] = _copies(site, size) if other is None else labels.of(site.store, other, d)
    return Value(shape, list(out))


def _copies(site: Site, size: int) -> tuple[Label, ...]:
    return (Label(site.store.mint(size)),) if size > 1 else ()


@resizes(aten.expand.default, aten.broadcast_to.default)
def resize_expand(call: Call) -> Resized:
    """Name the sizes that are left; -1 stays."""
    pairs = zip(call["size"], call.after[0], strict=True)
    return call.replace(size=[old if old == -1 else new for old, new in pairs])


@couples(aten.repeat.default, aten.tile.default)
def couple_repeat(site: Site) -> Value:
    """Tile a tensor; a tiled dimension carries its labels once per copy.

    Shapes: x (*S); result (*T, *S * repeats); of a dimension of size 1 any copy may be removed.
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
        elif x.shape[d] == 1:
            out.append(_copies(site, size))
        else:
            labels.without_rows_on(store, x, [d])
            out.append(tuple(Label(np.tile(y.ids, times)) for y in labels.flat(store, x, d)))
    return Value(shape, list(out))


@resizes(aten.repeat.default, aten.tile.default)
def resize_repeat(call: Call) -> Resized:
    """Name the copies that are left of dimensions of size 1."""
    name = "repeats" if "repeats" in call.arguments else "dims"
    (before,) = call.inputs_before.values()
    repeats = list(call[name])
    for back in range(1, len(repeats) + 1):
        if repeats[-back] > 1 and (back > len(before) or before[-back] == 1):
            repeats[-back] = call.after[0][-back]
    changed: dict[str, Any] = {name: repeats}
    return call.replace(**changed)


@couples(aten.repeat_interleave.self_int)
def couple_repeat_interleave(site: Site) -> Value:
    """Repeat every index of one dimension; of a dimension of size 1 any copy may be removed.

    Source: torch.repeat_interleave.
    """
    x, dim = site["self"], site["dim"]
    if dim is None:
        site.freeze_all("repeat_interleave without a dimension")
        return labels.unlabelled(site.shape)
    dim %= x.rank
    indices = np.repeat(np.arange(x.shape[dim]), site["repeats"])
    made = labels.take(site.store, x, dim, indices)
    if x.shape[dim] == 1:
        made.labels[dim] = _copies(site, site["repeats"])
    return made


@resizes(aten.repeat_interleave.self_int)
def resize_repeat_interleave(call: Call) -> Resized:
    """Name the copies that are left of a dimension of size 1, and the size of the result."""
    (before,) = call.inputs_before.values()
    if call["dim"] is None:
        return call.replace()
    dim = call["dim"] % len(before)
    size = call.after[0][dim]
    repeats = size if before[dim] == 1 else call["repeats"]
    output_size = None if call["output_size"] is None else size
    return call.replace(repeats=repeats, output_size=output_size)


@couples(aten.flip.default, aten.fliplr.default, aten.flipud.default)
def couple_flip(site: Site) -> Value:
    """Turn dimensions around; labels follow their indices. Source: torch.flip."""
    x = site["self"]
    turned = {aten.fliplr.default: [1], aten.flipud.default: [0]}.get(site.operator)
    for dim in site["dims"] if turned is None else turned:
        x = labels.take(site.store, x, dim, np.arange(x.shape[dim])[::-1])
    return x  # type: ignore[no-any-return]  # a Value by the schema


@couples(aten.roll.default)
def couple_roll(site: Site) -> Value:
    """Turn dimensions round; labels follow their indices, and fewer are turned round than were.

    Shapes: x any; result likewise. Without `dims` x is read as one line.
    Source: torch.roll.
    """
    x, dims = site["self"], [d % max(site["self"].rank, 1) for d in site["dims"]]
    if not dims or len(set(dims)) < len(dims):
        site.freeze(x, range(x.rank), "order along the dimension matters")
        return labels.unlabelled(site.shape)
    for dim, shift in zip(dims, site["shifts"], strict=True):
        labels.flat(site.store, x, dim)
        x = labels.take(site.store, x, dim, np.roll(np.arange(x.shape[dim]), shift))
    return x  # type: ignore[no-any-return]  # a Value by the schema


@resizes(aten.roll.default)
def resize_roll(call: Call) -> Resized:
    """Count what is left of the indices that are turned round to the front."""
    shifts = list(call["shifts"])
    for position, dim in enumerate(call["dims"]):
        kept = call.kept["self"][dim % len(call.after[0])]
        if kept is not None and not kept.all():
            shifts[position] = int(kept[len(kept) - shifts[position] % len(kept) :].sum())
    return call.replace(shifts=shifts)


@couples(aten.slice.Tensor)
def couple_slice(site: Site) -> Value:
    """Cut a range out of one dimension, or every n-th index of all of it.

    Source: torch.Tensor indexing.
    """
    x, dim = site["self"], site["dim"] % max(site["self"].rank, 1)
    cut = slice(site["start"], site["end"], site["step"])
    if len(np.arange(x.shape[dim])[cut]) == x.shape[dim]:
        return x  # type: ignore[no-any-return]  # a Value by the schema
    if site["step"] != 1:
        _keep_blocks(site, x, dim, cut)
    labels.flat(site.store, x, dim)
    _keep_one(site, x, dim, cut)
    return labels.take(site.store, x, dim, cut)


def _keep_blocks(site: Site, x: Value, dim: int, cut: slice) -> None:
    """Tie every n indices that a cut takes one of: whole blocks go, and each keeps its place."""
    size = x.shape[dim]
    start, end, step = cut.indices(size)
    if size % step or start >= step or end < size:
        site.freeze(x, [dim], "every n-th index is taken")
        return
    for label in site.labels(x, dim):
        blocks = label.ids.reshape(-1, step)
        site.store.tie(blocks[:, 1:], blocks[:, :1])


def _keep_one(site: Site, x: Value, dim: int, cut: slice) -> None:
    """Keep the index of a cut that has only one: an empty tensor is not the same function."""
    if len(np.arange(x.shape[dim])[cut]) == 1:
        for label in labels.of(site.store, x, dim):
            site.store.freeze(label.ids[..., cut], site.because("the only index of a slice"))


@resizes(aten.slice.Tensor)
def resize_slice(call: Call) -> Resized:
    """Count what is left before the start and before the end."""
    kept = call.kept["self"][call["dim"]]
    if kept is None or kept.all() or call["step"] != 1:
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


@couples(aten.narrow.default)
def couple_narrow(site: Site) -> Value:
    """Cut a range out of one dimension. Source: torch.narrow."""
    x, length = site["self"], site["length"]
    dim = site["dim"] % x.rank
    start = site["start"] % x.shape[dim] if x.shape[dim] else 0
    if length == x.shape[dim]:
        return x  # type: ignore[no-any-return]  # a Value by the schema
    labels.flat(site.store, x, dim)
    _keep_one(site, x, dim, slice(start, start + length))
    return labels.take(site.store, x, dim, slice(start, start + length))


@resizes(aten.narrow.default)
def resize_narrow(call: Call) -> Resized:
    """Count what is left before the start and from there on."""
    dim = call["dim"] % len(call.after[0])
    kept = call.kept["self"][dim]
    if kept is None or kept.all():
        return call.replace()
    start = _position(call["start"], call["start"] % len(kept), kept)
    return call.replace(start=start, length=call.after[0][dim])


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


_CHUNKS = (
    aten.chunk.default,
    aten.unsafe_chunk.default,
    aten.tensor_split.sections,
    aten.hsplit.int,
    aten.vsplit.int,
    aten.dsplit.int,
)
_DIM_OF = {"hsplit": 1, "vsplit": 0, "dsplit": 2}  # those that name no dimension


def _cut_dim(operator: Any, arguments: Mapping[str, Any], rank: int) -> int:
    """Name the dimension that an operator cuts."""
    if "dim" in arguments:
        return int(arguments["dim"]) % rank
    named = _DIM_OF[operator._schema.name.removeprefix("aten::")]
    return min(named, rank - 1)


@couples(*_CHUNKS)
def couple_chunk(site: Site) -> list[Value]:
    """Cut a dimension into equal parts, which keep equally many indices. Source: torch.chunk."""
    return cut_equally(site)


def cut_equally(site: Site) -> list[Value]:
    """Demand equal counts of all parts; parts of different size are frozen."""
    x = site["self"]
    dim = _cut_dim(site.operator, site.arguments, x.rank)
    sizes = [s[dim] for s in site.shapes]
    if len(set(sizes)) == 1:
        balance_parts(site, x, dim, len(sizes))
    else:
        site.freeze(x, [dim], "cut into parts of different size")
    return _cut(site, x, dim, sizes)


@couples(aten.split.Tensor, aten.unsafe_split.Tensor)
def couple_split(site: Site) -> list[Value]:
    """Cut a dimension into parts of one size, which keep equally many. Source: torch.split."""
    return cut_equally(site)


@resizes(aten.split.Tensor, aten.unsafe_split.Tensor)
def resize_split(call: Call) -> Resized:
    """Name the size that is left of a part."""
    (before,) = call.inputs_before.values()
    return call.replace(split_size=call.after[0][call["dim"] % len(before)])


_SIZED_SPLITS = (
    aten.split_with_sizes.default,
    aten.unsafe_split_with_sizes.default,
    aten.split.sizes,
)
_INDEXED_SPLITS = (
    aten.tensor_split.indices,
    aten.hsplit.array,
    aten.vsplit.array,
    aten.dsplit.array,
)


@couples(*_SIZED_SPLITS, *_INDEXED_SPLITS)
def couple_split_with_sizes(site: Site) -> list[Value]:
    """Cut a dimension into parts of given sizes. Source: torch.split, torch.tensor_split."""
    x = site["self"]
    dim = _cut_dim(site.operator, site.arguments, x.rank)
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


@resizes(*_SIZED_SPLITS)
def resize_split_with_sizes(call: Call) -> Resized:
    """Name the sizes that are left."""
    (before,) = call.inputs_before.values()
    dim = call["dim"] % len(before)
    name = "split_sizes" if "split_sizes" in call.arguments else "split_size"
    changed: dict[str, Any] = {name: [s[dim] for s in call.after]}
    return call.replace(**changed)


@resizes(*_INDEXED_SPLITS)
def resize_tensor_split(call: Call) -> Resized:
    """Count what is left before each cut."""
    (before,) = call.inputs_before.values()
    dim = _cut_dim(call.operator, call.arguments, len(before))
    ends = np.cumsum([s[dim] for s in call.after])[:-1]
    return call.replace(indices=[int(n) for n in ends])


@couples(aten.pad.default, aten.constant_pad_nd.default)
def couple_pad(site: Site) -> Value:
    """Add positions, which stay; those of the argument pass where a constant is added.

    Shapes: x (*S); result (*T), T being S plus what `pad` adds, last dimension first.
    Source: torch.nn.functional.pad.
    """
    x, pad = site["self"], list(site["pad"])
    constant = site.arguments.get("mode", "constant") == "constant"
    added = {x.rank - 1 - i: pad[2 * i : 2 * i + 2] for i in range(len(pad) // 2)}
    padded = [d for d, ends in added.items() if any(ends)]
    if not constant or min(pad, default=0) < 0:
        site.freeze(x, padded, "padded dimension")
    labels.without_rows_on(site.store, x, padded)
    out = []
    for d in range(x.rank):
        if d not in padded:
            out.append(labels.of(site.store, x, d))
        elif constant and min(added[d]) >= 0:
            found = site.labels(x, d)
            out.append(tuple(Label(np.pad(label.ids, added[d])) for label in found))
        else:
            out.append(())
    return Value(site.shape, list(out))


@couples(aten.rot90.default)
def couple_plane(site: Site) -> Value:
    """Freeze the two dimensions whose positions are exchanged; the others pass.

    Source: torch.rot90.
    """
    x = site["self"]
    plane = [d % x.rank for d in site["dims"]]
    site.freeze(x, plane, "positions of two dimensions are exchanged")
    labels.without_rows_on(site.store, x, plane)
    out = [() if d in plane else labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, list(out))


@couples(aten.diagonal.default, aten.linalg_diagonal.default)
def couple_diagonal(site: Site) -> Value:
    """Tie two dimensions index by index: an index of the diagonal, which comes last, is of both.

    Shapes: x (*S, n, n); result (*S, n). Beside the main diagonal both dimensions are frozen.
    Source: torch.diagonal.
    """
    x = site.values()[0]
    return take_diagonal(site, x, site["dim1"], site["dim2"], site["offset"], site.shape)


def take_diagonal(
    site: Site, x: Value, dim1: int, dim2: int, offset: int, shape: Sequence[int]
) -> Value:
    """Keep of two dimensions only where their indices are equal, as the last dimension."""
    dim1, dim2 = dim1 % x.rank, dim2 % x.rank
    for dim in (dim1, dim2):
        labels.flat(site.store, x, dim)
    if offset or x.shape[dim1] != x.shape[dim2]:
        site.freeze(x, [dim1, dim2], "positions of two dimensions are matched")
        line: tuple[Label, ...] = ()
    else:
        site.tie(x, dim1, x, dim2)
        line = site.labels(x, dim1)
    rest = labels.drop_dims(site.store, x, [dim1, dim2])
    return Value(tuple(shape), [*rest.labels, line])


@couples(aten.diag_embed.default, aten.diag.default, aten.diagflat.default)
def couple_diag_embed(site: Site) -> Value:
    """Make a line a diagonal: its index is a row and a column. `diag` of a matrix is the inverse.

    Shapes: x (*S, n); result (*S, n, n). Beside the main diagonal the line is frozen.
    Source: torch.diag_embed, torch.diag.
    """
    x, rank = site["self"], len(site.shape)
    offset = site.arguments.get("diagonal", site.arguments.get("offset"))
    if site.operator is not aten.diag_embed.default:
        if rank < x.rank:
            return take_diagonal(site, x, 0, 1, offset, site.shape)
        x = labels.reshape(
            site.store, x, (math.prod(x.shape),), site.because("a view cuts across channels")
        )
    line = site.labels(x, -1)
    if offset:
        site.freeze(x, [-1], "positions of two dimensions are matched")
        line = ()
    made = labels.drop_dims(site.store, x, [x.rank - 1])
    places = sorted(site.arguments.get(n, d) % rank for n, d in (("dim1", -2), ("dim2", -1)))
    for dim in places:
        made = labels.insert_dim(site.store, made, dim)
    return Value(site.shape, [line if d in places else f for d, f in enumerate(made.labels)])


@couples(aten.view.dtype)
def couple_view_dtype(site: Site) -> Value:
    """Read the same bytes as another type; a last dimension that grows or shrinks is frozen.

    Source: torch.Tensor.view.
    """
    x = site["self"]
    if x.shape == site.shape:
        return x  # type: ignore[no-any-return]  # a Value by the schema
    site.freeze(x, [-1], "bytes read as another type")
    labels.without_rows_on(site.store, x, [x.rank - 1])
    return Value(site.shape, [*(labels.of(site.store, x, d) for d in range(x.rank - 1)), ()])


@couples(aten.as_strided.default, aten.as_strided_.default)
def couple_as_strided(site: Site) -> Value:
    """Follow strides that are those of a view, or of leading dimensions; freeze what others read.

    Shapes: x (*S), result `size`; dimensions of windows and diagonals come after those that pass.
    Source: torch.as_strided.
    """
    x, size, strides = site["self"], site["size"], site["stride"]
    because = site.because("read by strides")
    packed = "self" in site.packed and not site["storage_offset"]
    if packed and math.prod(size) == math.prod(x.shape) and _follows(size, strides, size):
        return labels.reshape(site.store, x, size, because)
    passed = _passing(x.shape, size, strides) if packed else 0
    site.freeze(x, range(passed, x.rank), because.text)
    labels.without_rows_on(site.store, x, range(passed, x.rank))
    found = [labels.of(site.store, x, d) for d in range(passed)]
    return Value(site.shape, [*found, *[()] * (len(size) - passed)])


@resizes(aten.as_strided.default, aten.as_strided_.default)
def resize_as_strided(call: Call) -> Resized:
    """Name the sizes that are left, and the strides of what is left in order."""
    size, strides, x = call["size"], call["stride"], call.inputs_after["self"]
    left, before = list(call.after[0]), call.inputs_before["self"]
    if math.prod(size) == math.prod(before) and _follows(size, strides, size):
        return call.replace(size=left, stride=_packed(left))
    passed = _passing(before, size, strides) if left != list(size) else 0
    return call.replace(size=left, stride=[*_packed(x)[:passed], *strides[passed:]])


def _packed(shape: Sequence[int]) -> list[int]:
    """Give the strides of elements that lie in order."""
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def _follows(size: Sequence[int], strides: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether strides of these sizes are those of a tensor in order."""
    return all(
        n == 1 or own == wanted
        for n, own, wanted in zip(size, strides, _packed(shape), strict=False)
    )


def _passing(shape: Sequence[int], size: Sequence[int], strides: Sequence[int]) -> int:
    """Count leading dimensions that are the same in both, inside which the others stay."""
    for count in range(min(len(shape), len(size)), 0, -1):
        reach = sum((n - 1) * s for n, s in zip(size[count:], strides[count:], strict=True))
        same = tuple(size[:count]) == tuple(shape[:count])
        if same and _follows(size[:count], strides, shape) and reach < math.prod(shape[count:]):
            return count
    return 0
