"""Find the channel groups of a graph."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrink.core.graph import Graph
from shrink.core.groups import Axis, ChannelGroups, Dim, Frozen, Label, Units
from shrink.groups.globs import Globs, layer_names, name_interface, parents_of
from shrink.groups.partition import partition
from shrink.groups.propagate import Labelled, propagate
from shrink.groups.resolve import Resolution, resolve
from shrink.rules import labels
from shrink.rules.labels import Reason
from shrink.rules.registry import Couple


def find_groups(
    graph: Graph,
    *,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    free: Sequence[str] = (),
    rules: Mapping[Any, Couple] | None = None,
    strict: bool = False,
) -> ChannelGroups:
    """Find which channels are coupled, and which of them can be removed.

    Args:
        keep: globs of layer or tensor names that stay whole.
        only: globs of the layers whose output channels may go; empty for all.
        free: globs of the inputs and outputs that may shrink too (`output`, `input:1`), or of the
            layers whose channels those are.
        rules: coupling rules of the caller by operator, before the registered ones.
        strict: raise where an operator has no rule.

    Raises:
        InputError: a glob matches nothing.
        UnsupportedOpError: an operator has no rule and `strict` is set.
    """
    kept, wanted, freed = Globs("keep", keep), Globs("only", only), Globs("free", free)
    labelled = propagate(graph, extra=rules or {}, strict=strict, free=freed)
    _protect(graph, labelled, kept, wanted)
    layers = layer_names(graph.stored)
    kept.check(layers, "parameter or layer")
    wanted.check(layers, "parameter or layer")
    interface = dict.fromkeys(name for name, _ in name_interface(graph))
    for name in interface:  # of a number, which has no dimension, too
        freed.match(parents_of(name))
    freed.check({**interface, **layers}, "input or output of the network")
    store = labelled.store
    while True:
        resolution = resolve(store)
        groups, unmet = _collect(graph, labelled, resolution)
        single = [g.parts for g in groups.groups if g.parts.size == 1 and g.stride > 1]
        if not unmet and not single:
            return groups
        if single:  # a block of channels unlike any other: it can only go with all of its layer
            lone = _labels_of(np.concatenate(single).ravel(), labelled, resolution)
            store.freeze(lone, Reason("a block of channels unlike any other"))
            continue
        for index in unmet:  # no counts can state it: the parts lose the same positions
            parts = store.balances[index]
            for part in parts[1:]:
                for first, other in zip(parts[0], part, strict=True):
                    store.tie(first, other)
        store.balances = [b for i, b in enumerate(store.balances) if i not in unmet]


def _protect(graph: Graph, labelled: Labelled, keep: Globs, only: Globs) -> None:
    for name in graph.stored:
        names = parents_of(name)
        kept, wanted = keep.match(names), only.match(names)
        value = labelled.stored.get(name)
        if value is None:
            continue
        if kept:
            labels.freeze_value(labelled.store, value, Reason(f"user: keep={kept}"))
        elif only.globs and not wanted and value.rank > 1:  # biases and norms follow their layer
            for dim in labelled.produced.get(name, (0,)):
                reason = Reason(f"user: only={' '.join(only.globs)}")
                labels.freeze_dim(labelled.store, value, dim, reason)


def _labels_of(units: Units, labelled: Labelled, resolution: Resolution) -> Units:
    """Name the representatives of units."""
    unit_of, _ = _number(labelled, resolution)
    return np.flatnonzero(np.isin(unit_of, units))


@dataclass(eq=False)
class _Numbering:
    """Units in place of labels; equal arrays are one object, so that work on them is shared."""

    resolution: Resolution
    unit_of: Units
    known: dict[tuple[int, tuple[int, ...]], tuple[Label, ...]] = field(default_factory=dict)
    arrays: dict[tuple[bytes, tuple[int, ...]], Label] = field(default_factory=dict)

    def __call__(self, label: Label) -> tuple[Label, ...]:
        key = (id(label.ids), label.rows)
        if key not in self.known:
            made = []
            for roots in self.resolution.expand(label.ids):
                units = self.unit_of[roots]
                if (units >= 0).any():
                    found = self.arrays.setdefault(
                        (units.tobytes(), (*label.rows, -1, *units.shape)), Label(units, label.rows)
                    )
                    made.append(found)
            self.known[key] = tuple(made)
        return self.known[key]

    def all(self, found: Iterable[Label]) -> tuple[Label, ...]:
        """Number the labels of one dimension, each array once."""
        return tuple({id(x): x for label in found for x in self(label)}.values())


def _collect(
    graph: Graph, labelled: Labelled, resolution: Resolution
) -> tuple[ChannelGroups, tuple[int, ...]]:
    unit_of, outer = _number(labelled, resolution)
    number = _Numbering(resolution, unit_of)
    axes = []
    for name, value in labelled.stored.items():
        for dim, found in enumerate(value.labels):
            units = number.all(found or ())
            if units:
                axes.append(Axis(name, dim, value.shape[dim], tuple(x.ids for x in units)))
    values = _values(labelled, number)
    dims: dict[tuple[int, ...], tuple[Units, ...]] = {}
    for arrays in (
        *(a.units for a in axes),
        *(
            tuple(x.ids for x in d.labels)
            for v in values.values()
            for t in v
            for d in t
            if d.labels
        ),
    ):
        dims.setdefault(tuple(id(a) for a in arrays), arrays)
    balances = [
        tuple(
            tuple(x.ids for x in number.all(map(Label, part))) or (np.full(part[0].size, -1),)
            for part in parts
        )
        for parts in labelled.store.balances
    ]
    floors = [
        (tuple(x.ids for x in number(Label(ids))), count) for ids, count in labelled.store.floors
    ]
    divided = partition(outer, axes, tuple(dims.values()), balances, floors)
    groups = ChannelGroups(
        unit_count=len(outer),
        axes=tuple(axes),
        groups=divided.groups,
        balances=divided.balances,
        frozen=_frozen(graph, labelled, resolution),
        values=values,
        group_of=divided.group_of,
    )
    return groups, divided.unmet


def _number(labelled: Labelled, resolution: Resolution) -> tuple[Units, NDArray[np.bool_]]:
    """Number the units that some stored axis carries, and mark those that are rows of a split."""
    used = np.zeros(len(resolution.roots), dtype=np.bool_)
    for value in labelled.stored.values():
        for found in value.labels:
            for label in found or ():
                for roots in resolution.expand(label.ids):
                    used[roots] = True
    used[0] = False
    unit_of = np.where(used, np.cumsum(used) - 1, -1)
    is_row = np.zeros(len(resolution.roots), dtype=np.bool_)
    for rows in labelled.store.rows:
        is_row[resolution.roots[rows]] = True
    return unit_of, is_row[used]


def _values(labelled: Labelled, number: _Numbering) -> dict[str, tuple[tuple[Dim, ...], ...]]:
    known: dict[tuple[int, ...], Dim] = {}

    def dim_of(size: int, found: tuple[Label, ...] | None) -> Dim:
        units = number.all(found or ())
        key = (size, *(id(x) for x in units))
        if key not in known:
            known[key] = Dim(size, units)
        return known[key]

    return {
        name: tuple(
            tuple(dim_of(n, found) for n, found in zip(v.shape, v.labels, strict=True))
            for v in tensors
        )
        for name, tensors in labelled.values.items()
    }


def _frozen(graph: Graph, labelled: Labelled, resolution: Resolution) -> tuple[Frozen, ...]:
    """List the stored axes of which some index is frozen, by reason."""
    by_reason: dict[int, list[tuple[str, int, int]]] = {}
    bare = dict(labelled.store.bare)
    for name, value in labelled.stored.items():
        for dim, found in enumerate(value.labels):
            if found is None and value.shape[dim] > 1:
                bare[name, dim] = Reason("read for its type or size only")
            if found and not any(resolution.roots[label.ids].any() for label in found):
                bare[name, dim] = Reason("goes with positions that nothing can remove")
            for label in found or ():
                counts = np.bincount(resolution.why(label.ids))
                for code in np.flatnonzero(counts[1:]) + 1:
                    by_reason.setdefault(int(code), []).append((name, dim, int(counts[code])))
    fixed: dict[Reason, list[tuple[str, int, int]]] = {}
    for (name, dim), reason in bare.items():
        fixed.setdefault(reason, []).append((name, dim, labelled.stored[name].shape[dim]))
    unread = [n for n, t in graph.stored.items() if n not in labelled.stored and t.numel() > 1]
    unused = [
        Frozen(((n, 0),), len(graph.stored[n]), "not read by the forward pass", n) for n in unread
    ]
    listed = [
        *((labelled.store.reasons[code], places) for code, places in sorted(by_reason.items())),
        *fixed.items(),
    ]
    return tuple(unused) + tuple(
        Frozen(
            axes=tuple((name, dim) for name, dim, _ in places),
            size=max(count for _, _, count in places),
            reason=reason.text,
            where=reason.where,
        )
        for reason, places in listed
    )
