"""The label algebra: which unit each index of each dimension carries, and what views do to it.

Labels are numbered in a `Store`, which remembers three facts about them: which are the same unit
(ties, by union-find), which never die (frozen, with the reason), and which live exactly while
several others do (definitions, from splitting a dimension). Label 0 never dies.

A `Value` gives one tensor's labels. Along each dimension it has any number of `Label` arrays; an
index is alive while all its labels are. A label array may depend on other dimensions too (`rows`):
that is what a split leaves, as in `(heads * head_dim) -> (heads, head_dim)`, where every head may
lose dims of its own as long as all heads keep equally many.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Label, Units

LARGEST_LABEL_ARRAY = 1 << 25  # entries; beyond it a view of labelled dimensions is frozen


@dataclass(frozen=True)
class Reason:
    """Why labels are frozen."""

    text: str
    where: str = ""


@dataclass(eq=False)
class Value:
    """One tensor of the graph: its sizes, and the labels of each dimension.

    `labels[d]` is None for a dimension of a stored tensor that nothing has looked at yet. `origin`
    says of a value without labels what it is made of.
    """

    shape: tuple[int, ...]
    labels: list[tuple[Label, ...] | None]
    stored: str = ""
    origin: str = ""

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


def unlabelled(shape: Iterable[int]) -> Value:
    """Make a value of which nothing can be removed."""
    sizes = tuple(int(n) for n in shape)
    return Value(sizes, [()] * len(sizes))


@dataclass(eq=False)
class Store:
    """All labels of one graph and what is known of them.

    Args:
        parents, count, frozen, reasons: union-find over the labels made so far, and for each the
            index of the reason it is frozen for (0: it is not).
        definitions: labels that live exactly while, at each index, all labels of the parts do.
        balances: parts, each with its label arrays, that keep equally many indices.
        floors: label arrays of which at least so many indices stay.
        rows: labels of rows (heads, conv groups) that splits made: other labels lie inside them.
        splits: what a split of given labels has been refined to, so that equal views agree.
        bare: dimensions of stored tensors that have no labels, and why.
    """

    parents: Units = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    count: int = 1
    reasons: list[Reason] = field(default_factory=lambda: [Reason("")])
    frozen: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, dtype=np.int32))
    definitions: list[tuple[Units, tuple[Units, ...]]] = field(default_factory=list)
    balances: list[tuple[tuple[Units, ...], ...]] = field(default_factory=list)
    floors: list[tuple[Units, int]] = field(default_factory=list)
    rows: list[Units] = field(default_factory=list)
    splits: dict[tuple[bytes, tuple[int, ...]], tuple[Label, ...]] = field(default_factory=dict)
    bare: dict[tuple[str, int], Reason] = field(default_factory=dict)

    def mint(self, count: int) -> Units:
        """Make `count` new labels."""
        first, self.count = self.count, self.count + count
        if self.count > len(self.parents):
            room = max(self.count, 2 * len(self.parents), 1024)
            parents = np.arange(room, dtype=np.int64)
            parents[:first] = self.parents[:first]
            frozen = np.zeros(room, dtype=np.int32)
            frozen[:first] = self.frozen[:first]
            self.parents, self.frozen = parents, frozen
        return np.arange(first, self.count, dtype=np.int64)

    def find(self, ids: Units) -> Units:
        """Name the representative of each label."""
        roots = self.parents[ids]
        while True:
            above = self.parents[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self.parents[ids] = roots
        return roots

    def tie(self, a: Units, b: Units) -> bool:
        """Make labels one unit, index by index (arrays broadcast); tell whether any was news."""
        if a is b:
            return False
        left, right = (x.ravel() for x in np.broadcast_arrays(a, b))
        changed = False
        while True:
            left, right = self.find(left), self.find(right)
            differ = left != right
            if not differ.any():
                return changed
            changed = True
            low, high = np.minimum(left, right)[differ], np.maximum(left, right)[differ]
            np.minimum.at(self.parents, high, low)

    def freeze(self, ids: Units, reason: Reason) -> None:
        """Declare that labels never die; the first reason given is the one reported."""
        flat = ids.ravel()
        fresh = flat[self.frozen[flat] == 0]
        if fresh.size:
            if self.reasons[-1] != reason:
                self.reasons.append(reason)
            self.frozen[fresh] = len(self.reasons) - 1

    def define(self, ids: Units, parts: Sequence[Units]) -> None:
        """Declare that each label lives exactly while the labels of all `parts` at its index do."""
        self.definitions.append((ids.ravel(), tuple(p.ravel() for p in parts)))

    def balance(self, parts: Sequence[Sequence[Units]]) -> None:
        """Declare that all parts keep equally many indices.

        Args:
            parts: for each part its label arrays; an index lives while all its labels do.
        """
        self.balances.append(tuple(tuple(part) for part in parts))

    def keep_least(self, ids: Units, count: int) -> None:
        """Declare that at least `count` indices stay."""
        self.floors.append((ids, count))


# --- reading labels ----------------------------------------------------------------------------


def of(store: Store, value: Value, dim: int) -> tuple[Label, ...]:
    """Read the labels of a dimension; a stored tensor's are minted when first read."""
    dim %= max(value.rank, 1)
    labels = value.labels[dim]
    if labels is None:
        size = value.shape[dim]
        labels = (Label(store.mint(size)),) if size > 1 else ()
        value.labels[dim] = labels
    return labels


def flat(store: Store, value: Value, dim: int) -> tuple[Label, ...]:
    """Read the labels of a dimension with no dependence on other dimensions: rows become one."""
    dim %= max(value.rank, 1)
    labels = of(store, value, dim)
    if any(label.rows for label in labels):
        flattened = []
        for label in labels:
            ids = label.ids
            if label.rows:
                rows = ids.reshape(-1, ids.shape[-1])
                store.tie(rows[1:], rows[:1])
                ids = rows[0]
            flattened.append(Label(ids))
        labels = tuple(flattened)
        value.labels[dim] = labels
    return labels


def without_rows_on(store: Store, value: Value, gone: Iterable[int]) -> None:
    """Flatten every label that depends on a dimension of `gone`."""
    gone = set(gone)
    for dim in range(value.rank):
        labels = value.labels[dim]
        if labels and any(gone.intersection(label.rows) for label in labels):
            flat(store, value, dim)


def adopt(store: Store, value: Value, dim: int, labels: tuple[Label, ...], reason: Reason) -> None:
    """Give a dimension that nothing has looked at yet the labels of what it meets."""
    value.labels[dim] = labels
    if value.stored and not labels and value.shape[dim] > 1:
        store.bare[value.stored, dim] = reason


def freeze_dim(store: Store, value: Value, dim: int, reason: Reason) -> None:
    """Freeze all labels of a dimension."""
    dim %= max(value.rank, 1)
    for label in of(store, value, dim):
        store.freeze(label.ids, reason)


def freeze_value(store: Store, value: Value, reason: Reason) -> None:
    """Freeze all labels of all dimensions."""
    for dim in range(value.rank):
        freeze_dim(store, value, dim, reason)


# --- ties --------------------------------------------------------------------------------------


def tie_labels(store: Store, a: tuple[Label, ...], b: tuple[Label, ...]) -> None:
    """Declare that two label tuples (without rows, or with the same rows) mark the same indices."""
    if a is b or (len(a) == len(b) and all(x.ids is y.ids for x, y in zip(a, b, strict=True))):
        return
    if len(a) == len(b):
        # Component by component is sound in any order; matching patterns keep it from being coarse
        order = sorted(b, key=_pattern)
        for x, y in zip(sorted(a, key=_pattern), order, strict=True):
            store.tie(x.ids, y.ids)
        return
    if len(a) > len(b):
        a, b = b, a
    if len(a) == 1 and len(np.unique(a[0].ids)) == a[0].ids.size:
        store.define(a[0].ids, [label.ids for label in b])
        return
    for label in (*a[1:], *b):
        store.tie(a[0].ids, label.ids)


def _pattern(label: Label) -> tuple[int, int]:
    """Order label arrays by how many different labels they hold, and where the first repeat is."""
    values, first = np.unique(label.ids, return_index=True)
    gaps = np.sort(first)
    return len(values), int(gaps[1]) if len(gaps) > 1 else 0


def tie_dims(store: Store, a: Value, dim_a: int, b: Value, dim_b: int, reason: Reason) -> None:
    """Tie a dimension of one value to an equally long one of another, index by index.

    A dimension of a stored tensor that nothing has looked at yet adopts the other's labels. Where
    one side can lose nothing, the other is frozen for `reason`.
    """
    dim_a, dim_b = dim_a % a.rank, dim_b % b.rank
    if a.labels[dim_a] is None:
        a, dim_a, b, dim_b = b, dim_b, a, dim_a
    left = flat(store, a, dim_a)
    reason = because_of([a, b], reason)
    if b.labels[dim_b] is None:
        adopt(store, b, dim_b, left, reason)
        return
    right = flat(store, b, dim_b)
    if left and right:
        tie_labels(store, left, right)
    elif left or right:
        for label in left or right:
            store.freeze(label.ids, reason)


def because_of(values: Sequence[Value], reason: Reason) -> Reason:
    """Say what a value without labels is made of, where that is known."""
    origin = next((v.origin for v in values if v.origin), "")
    return Reason(origin, reason.where) if origin else reason


# --- element-wise broadcasting -------------------------------------------------------------------


def broadcast(store: Store, values: Sequence[Value], shape: Sequence[int], reason: Reason) -> Value:
    """Tie operands of an element-wise operator, aligned from the right; size 1 broadcasts."""
    rank = len(shape)
    out: list[tuple[Label, ...] | None] = []
    lazy: list[tuple[Value, int, int]] = []
    for dim in range(rank):
        present = [
            (v, dim - (rank - v.rank))
            for v in values
            if dim >= rank - v.rank and v.shape[dim - (rank - v.rank)] == shape[dim] > 1
        ]
        known = [(v, d) for v, d in present if v.labels[d] is not None]
        lazy += [(v, d, dim) for v, d in present if v.labels[d] is None]
        if not known:
            out.append(of(store, *present[0]) if present else ())
            continue
        tuples = [_shifted(v.labels[d] or (), rank - v.rank) for v, d in known]
        rows = {tuple(label.rows for label in t) for t in tuples}
        if len(rows) > 1:  # ragged in one operand only: flatten all of them
            tuples = [flat(store, v, d) for v, d in known]
        labelled = [t for t in tuples if t]
        if labelled and len(labelled) < len(tuples):
            cause = because_of([v for v, d in known if not v.labels[d]], reason)
            for t in labelled:
                for label in t:
                    store.freeze(label.ids, cause)
        for t in labelled[1:]:
            tie_labels(store, labelled[0], t)
        out.append(labelled[0] if labelled else ())
    value = Value(tuple(shape), out)
    for v, d, dim in lazy:
        if v.labels[d] is None:
            adopt(store, v, d, flat(store, value, dim), because_of(values, reason))
    return value


def _shifted(labels: tuple[Label, ...], by: int) -> tuple[Label, ...]:
    if by == 0 or not any(label.rows for label in labels):
        return labels
    return tuple(Label(x.ids, tuple(r + by for r in x.rows)) for x in labels)


# --- moving, dropping and adding dimensions -----------------------------------------------------


def permute(store: Store, value: Value, order: Sequence[int]) -> Value:
    """Reorder dimensions: result dimension i is dimension `order[i]`."""
    order = [d % value.rank for d in order]
    position = {old: new for new, old in enumerate(order)}
    labels: list[tuple[Label, ...] | None] = [
        _moved(of(store, value, old), position) for old in order
    ]
    return Value(tuple(value.shape[d] for d in order), labels)


def _moved(labels: tuple[Label, ...], position: dict[int, int]) -> tuple[Label, ...]:
    if not any(label.rows for label in labels):
        return labels
    moved = []
    for label in labels:
        rows = [position[r] for r in label.rows]
        order = sorted(range(len(rows)), key=rows.__getitem__)
        ids = label.ids.transpose(*order, len(rows))
        moved.append(Label(ids, tuple(rows[i] for i in order)))
    return tuple(moved)


def drop_dims(store: Store, value: Value, dims: Iterable[int]) -> Value:
    """Remove dimensions that an operator has summed or contracted away."""
    gone = {d % value.rank for d in dims}
    without_rows_on(store, value, gone)
    kept = [d for d in range(value.rank) if d not in gone]
    position = {old: new for new, old in enumerate(kept)}
    labels: list[tuple[Label, ...] | None] = [_moved(of(store, value, d), position) for d in kept]
    return Value(tuple(value.shape[d] for d in kept), labels)


def insert_dim(store: Store, value: Value, dim: int) -> Value:
    """Insert a dimension of size 1 at `dim`."""
    dim %= value.rank + 1
    position = {old: old + (old >= dim) for old in range(value.rank)}
    labels: list[tuple[Label, ...] | None] = [
        _moved(of(store, value, d), position) for d in range(value.rank)
    ]
    labels.insert(dim, ())
    return Value((*value.shape[:dim], 1, *value.shape[dim:]), labels)


def take(store: Store, value: Value, dim: int, indices: NDArray[np.int64] | slice) -> Value:
    """Pick indices of one dimension; labels follow their indices."""
    dim %= value.rank
    labels: list[tuple[Label, ...] | None] = []
    for d in range(value.rank):
        picked = []
        for label in of(store, value, d):
            if d == dim:
                picked.append(Label(label.ids[..., indices], label.rows))
            elif dim in label.rows:
                index: list[Any] = [slice(None)] * label.ids.ndim  # Any: slices and the array
                index[label.rows.index(dim)] = indices
                picked.append(Label(label.ids[tuple(index)], label.rows))
            else:
                picked.append(label)
        labels.append(tuple(picked))
    size = len(np.arange(value.shape[dim])[indices])
    shape = (*value.shape[:dim], size, *value.shape[dim + 1 :])
    result = Value(shape, labels)
    if size == 1:
        _simplify_rows(result)
        result.labels[dim] = ()
    return result


def _simplify_rows(value: Value) -> None:
    for d, labels in enumerate(value.labels):
        if labels and any(label.rows for label in labels):
            value.labels[d] = tuple(_without_constant_rows(x) for x in labels)


def _without_constant_rows(label: Label) -> Label:
    ids, rows = label.ids, list(label.rows)
    for axis in reversed(range(len(rows))):
        first = ids.take([0], axis=axis)
        if (ids == first).all():
            ids = first.squeeze(axis)
            del rows[axis]
    return Label(ids, tuple(rows))


def concatenate(store: Store, values: Sequence[Value], dim: int, reason: Reason) -> Value:
    """Join values along one dimension; all other dimensions are tied."""
    dim %= values[0].rank
    shape = list(values[0].shape)
    shape[dim] = 1
    outer = [_with_size(store, v, dim, 1) for v in values]
    joined = broadcast(store, outer, shape, reason)
    # Labels that tell most indices apart come first, so that like stands beside like.
    tuples = [
        tuple(sorted(flat(store, v, dim), key=lambda x: -len(np.unique(x.ids)))) for v in values
    ]
    width = max(len(t) for t in tuples)
    sizes = [v.shape[dim] for v in values]
    if width:
        parts = []
        for i in range(width):
            columns = [
                t[i].ids if i < len(t) else np.zeros(n, dtype=np.int64)
                for t, n in zip(tuples, sizes, strict=True)
            ]
            parts.append(Label(np.concatenate(columns)))
        joined.labels[dim] = tuple(parts)
    shape[dim] = sum(sizes)
    joined.shape = tuple(shape)
    return joined


def _with_size(store: Store, value: Value, dim: int, size: int) -> Value:
    without_rows_on(store, value, [dim])
    labels = [of(store, value, d) for d in range(value.rank)]
    labels[dim] = ()
    return Value((*value.shape[:dim], size, *value.shape[dim + 1 :]), list(labels))


# --- views: merge and split ---------------------------------------------------------------------


def reshape(store: Store, value: Value, shape: Sequence[int], reason: Reason) -> Value:
    """View a value with other sizes: split what is cut, merge what is joined.

    Both shapes are cut at all their boundaries (suffix products); where one boundary does not
    divide the next, indices cross and the dimensions concerned are frozen for `reason`.
    """
    shape = tuple(int(n) for n in shape)
    if shape == value.shape:
        return value
    # Every dimension is read, so that what is found of it is known to later uses too.
    if not any([of(store, value, d) for d in range(value.rank)]) or 0 in shape:  # noqa: C419
        return unlabelled(shape)
    ends_in, ends_out = _suffixes(value.shape), _suffixes(shape)
    bounds = sorted(set(ends_in) | set(ends_out))
    common = sorted(set(ends_in) & set(ends_out))
    crossing = [
        (low, high)
        for low, high in pairwise(common)
        if any(b % a for a, b in _steps([x for x in bounds if low <= x <= high]))
    ]
    for low, high in crossing:  # indices cross inside: nothing there may be removed
        for d in range(value.rank):
            if low <= ends_in[d + 1] and ends_in[d] <= high:
                freeze_dim(store, value, d, reason)
                without_rows_on(store, value, [d])
                value = _with_labels(value, d, ())
        bounds = [x for x in bounds if not low < x < high]
    fine = split(store, value, [_between(bounds, *_span(ends_in, d)) for d in range(value.rank)])
    blocks: list[list[int]] = []
    position = 0
    for d in range(len(shape)):
        sizes = _between(bounds, *_span(ends_out, d))
        blocks.append(list(range(position, position + len(sizes))))
        position += len(sizes)
    return merge(store, fine, blocks, shape, reason)


def _steps(bounds: list[int]) -> Iterable[tuple[int, int]]:
    return pairwise(bounds)


def _suffixes(shape: Sequence[int]) -> list[int]:
    ends = [1]
    for n in reversed(shape):
        ends.append(ends[-1] * n)
    return ends[::-1]


def _span(ends: list[int], dim: int) -> tuple[int, int]:
    return ends[dim + 1], ends[dim]


def _between(bounds: list[int], low: int, high: int) -> list[int]:
    """Cut a dimension that spans suffix products low..high at the bounds inside, outer first."""
    inside = [low, *(b for b in bounds if low < b < high), high] if high > low else []
    return [b // a for a, b in _steps(inside)][::-1]


def _with_labels(value: Value, dim: int, labels: tuple[Label, ...]) -> Value:
    changed = list(value.labels)
    changed[dim] = labels
    return Value(value.shape, changed, value.stored)


def split(store: Store, value: Value, sizes: Sequence[Sequence[int]]) -> Value:
    """Cut each dimension into several, outermost first; an empty list drops one of size 1."""
    starts = np.cumsum([0, *(len(s) for s in sizes)]).tolist()
    # A row dimension that is cut becomes several row dimensions; its labels are reshaped along.
    shape = tuple(n for s in sizes for n in s)
    out: list[tuple[Label, ...] | None] = [() for _ in shape]
    for dim in range(value.rank):
        cut = list(sizes[dim])
        labels = of(store, value, dim)
        if not labels or not cut:
            continue
        targets = list(range(starts[dim], starts[dim] + len(cut)))
        for owner, label in _split_labels(store, labels, cut):
            rows: list[int] = []
            row_sizes: list[int] = []
            for r in label.rows:
                if r >= 0:  # an outer dimension of the value
                    rows += range(starts[r], starts[r] + len(sizes[r]))
                    row_sizes += sizes[r]
                else:  # a piece of this dimension, numbered -1, -2, ... from the outermost
                    rows.append(targets[-1 - r])
                    row_sizes.append(cut[-1 - r])
            order = sorted(range(len(rows)), key=rows.__getitem__)
            ids = label.ids.reshape(*row_sizes, cut[owner]).transpose(*order, len(rows))
            new = Label(ids, tuple(rows[i] for i in order))
            target = targets[owner]
            out[target] = (*(out[target] or ()), new)
    return Value(shape, out)


def _split_labels(
    store: Store, labels: tuple[Label, ...], cut: list[int]
) -> list[tuple[int, Label]]:
    """Cut the labels of one dimension; rows of the pieces are -1 (outermost), -2, ..."""
    found: list[tuple[int, Label]] = []
    owned: set[int] = set()
    pending: list[tuple[Label, Units, list[int]]] = []
    for label in labels:
        outer = label.ids.shape[:-1]
        ids = label.ids.reshape(*outer, *cut)
        varying = []
        for i in range(len(cut)):
            axis = len(outer) + i
            if cut[i] > 1 and not (ids == ids.take([0], axis=axis)).all():
                varying.append(i)
        if len(varying) <= 1:
            owner = varying[0] if varying else len(cut) - 1
            index = (..., *(slice(None) if i == owner else 0 for i in range(len(cut))))
            found.append((owner, Label(ids[index], label.rows)))
            owned.add(owner)
        else:
            pending.append((label, ids, varying))
    for label, ids, varying in pending:
        outer_rank = len(label.rows)
        index = (..., *(slice(None) if i in varying else 0 for i in range(len(cut))))
        grid = np.ascontiguousarray(ids[index])
        key = (grid.tobytes(), (outer_rank, *grid.shape, *(i in owned for i in varying)))
        if key not in store.splits:
            store.splits[key] = _refine(store, grid, outer_rank, [i in owned for i in varying])
        pieces = store.splits[key]
        for piece in pieces:
            depth = piece.ids.ndim - outer_rank  # how many varying pieces it reaches
            rows = (*label.rows, *(-1 - i for i in varying[: depth - 1]))
            found.append((varying[depth - 1], Label(piece.ids, rows)))
    return found


def _refine(store: Store, ids: Units, outer_rank: int, owned: list[bool]) -> tuple[Label, ...]:
    """Refine one label per element of a grid into one per row, per column of a row, and so on.

    An element then lives while its row does and while it itself does inside the row. Dimensions
    that other labels own already need no labels of their own.
    """
    grid = ids.shape[outer_rank:]
    values, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    repeated = (counts[inverse] > 1).reshape(ids.shape)
    if repeated.any():
        # The same unit in several places of the grid: a row cannot go without the others.
        store.freeze(values[(counts > 1) & (values > 0)], Reason("a view cuts across channels"))
        if repeated.all():
            return ()
    pieces: list[Units] = []
    for depth in range(1, len(grid)):
        if owned[depth - 1]:
            continue
        sizes = ids.shape[: outer_rank + depth]
        pieces.append(store.mint(math.prod(sizes)).reshape(sizes))
        store.rows.append(pieces[-1].ravel())
    inner = store.mint(ids.size).reshape(ids.shape)
    inner[repeated] = 0
    pieces.append(inner)
    full = [
        np.broadcast_to(p.reshape(*p.shape, *(1,) * (ids.ndim - p.ndim)), ids.shape) for p in pieces
    ]
    store.define(ids[~repeated], [p[~repeated] for p in full])
    for piece in pieces:
        rows = piece.reshape(-1, piece.shape[-1])
        if len(rows) > 1:
            store.balance([[row] for row in rows])
    return tuple(Label(p) for p in pieces)


def merge(
    store: Store,
    value: Value,
    blocks: Sequence[Sequence[int]],
    shape: Sequence[int],
    reason: Reason,
) -> Value:
    """Join blocks of neighbouring dimensions; a label of one repeats along the others."""
    home = {d: i for i, block in enumerate(blocks) for d in block}
    out: list[tuple[Label, ...] | None] = [() for _ in blocks]
    for dim in range(value.rank):
        for label in of(store, value, dim):
            label = _in_order(store, label, dim, home)  # noqa: PLW2901  # the same dimension's
            touched = sorted({home[d] for d in (*label.rows, dim)})
            full = [d for i in touched for d in blocks[i]]
            size = math.prod(value.shape[d] for d in full)
            if size > LARGEST_LABEL_ARRAY:
                store.freeze(label.ids, reason)
                continue
            dims = (*label.rows, dim)
            order = sorted(range(len(dims)), key=dims.__getitem__)
            ids = label.ids.transpose(order)
            ids = ids.reshape([value.shape[d] if d in dims else 1 for d in full])
            ids = np.broadcast_to(ids, [value.shape[d] for d in full])
            ids = ids.reshape([math.prod(value.shape[d] for d in blocks[i]) for i in touched])
            owner = touched.index(home[dim])
            rows = tuple(i for i in touched if i != home[dim])
            ids = np.ascontiguousarray(np.moveaxis(ids, owner, -1))
            new = _without_constant_rows(Label(ids, rows)) if rows else Label(ids)
            out[home[dim]] = (*(out[home[dim]] or ()), new)
    return Value(tuple(int(n) for n in shape), out)


def _in_order(store: Store, label: Label, dim: int, home: dict[int, int]) -> Label:
    """Flatten rows that come to lie inside their own dimension (a channel shuffle).

    Were each row to keep indices of its own, the merged dimension would hold them in another order
    than that of the original.
    """
    ids, rows = label.ids, list(label.rows)
    for axis in reversed(range(len(rows))):
        if home[rows[axis]] == home[dim] and rows[axis] > dim:
            first = ids.take([0], axis=axis)
            store.tie(ids, first)
            ids = first.squeeze(axis)
            del rows[axis]
    return Label(ids, tuple(rows))
