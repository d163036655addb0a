"""From labels to units: what is left when ties, definitions and freezes are worked out."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Units
from shrink.rules.labels import Reason, Store

_DEEPEST = 32  # definitions inside definitions; a view of a view of ... a view


@dataclass(eq=False)
class Resolution:
    """The meaning of every label: the representatives it stands for, or that it never dies.

    Args:
        roots: representative of each label.
        reason: for each representative, index of the reason it is frozen for; 0 if it is not.
        row: for each representative, its row in `table`, or -1 if it is a unit by itself.
        table: for each defined representative, the labels whose survival it needs (0 fills up).
    """

    roots: Units
    reason: NDArray[np.int32]
    row: Units
    table: Units
    expanded: dict[int, tuple[Units, ...]] = field(default_factory=dict)
    held: list[Units] = field(default_factory=list)

    def expand(self, ids: Units) -> tuple[Units, ...]:
        """Write labels as arrays of unfrozen, undefined representatives; 0 where none is."""
        key = id(ids)
        if key not in self.expanded:
            self.held.append(ids)  # keeps the id from being used again
            arrays: dict[bytes, Units] = {}
            for array in self._expand(self.roots[ids], 0):
                units = np.where(self.reason[array] > 0, 0, array)
                if units.any():
                    arrays.setdefault(units.tobytes(), units)
            self.expanded[key] = tuple(arrays.values())
        return self.expanded[key]

    def why(self, ids: Units) -> NDArray[np.int32]:
        """Give the reason each label never dies for; 0 if it may die."""
        never = np.iinfo(np.int32).max  # of label 0, which needs no reason
        codes = self._why(ids.ravel(), never)
        return np.where(codes == never, 0, codes)

    def _why(self, ids: Units, never: int) -> NDArray[np.int32]:
        roots = self.roots[ids]
        codes = np.where(roots == 0, never, self.reason[roots])
        open_ = np.flatnonzero((codes == 0) & (self.row[roots] >= 0))
        if open_.size:  # it never dies if none of the labels does whose survival it needs
            table = self.table[self.row[roots[open_]]]
            parts = [self._why(table[:, c], never) for c in range(table.shape[1])]
            frozen = np.logical_and.reduce([p > 0 for p in parts])
            codes[open_] = np.where(frozen, np.minimum.reduce(parts), 0)
        return codes

    def _expand(self, roots: Units, depth: int) -> list[Units]:
        rows = self.row[roots]
        defined = rows >= 0
        if not defined.any():
            return [roots]
        if depth > _DEEPEST:
            msg = "definitions of labels form a cycle"
            raise AssertionError(msg)
        found = []
        for column in range(self.table.shape[1]):
            part = self.table[rows, column]
            rest = roots if column == 0 else 0
            found += self._expand(self.roots[np.where(defined, part, rest)], depth + 1)
        return found


def resolve(store: Store) -> Resolution:
    """Work out all ties, definitions and freezes to a fixed point."""
    while True:
        changed = _agree(store)
        changed |= _freeze_parts(store)
        if not changed:
            break
    roots = store.find(np.arange(store.count))
    row = np.full(store.count, -1, dtype=np.int64)
    width = max((len(parts) for _, parts in store.definitions), default=1)
    tables = [np.zeros((0, width), dtype=np.int64)]
    filled = 0
    for ids, parts in store.definitions:
        fresh, first = np.unique(roots[ids], return_index=True)
        open_ = row[fresh] < 0
        fresh, first = fresh[open_], first[open_]
        block = np.zeros((len(fresh), width), dtype=np.int64)
        for column, part in enumerate(parts):
            block[:, column] = part[first]
        own = (roots[block] == fresh[:, None]).any(axis=1)  # collapsed onto itself: a plain unit
        fresh, block = fresh[~own], block[~own]
        row[fresh] = filled + np.arange(len(fresh))
        filled += len(fresh)
        tables.append(block)
    return Resolution(roots, _class_reasons(store, roots), row, np.concatenate(tables))


def _class_reasons(store: Store, roots: Units) -> NDArray[np.int32]:
    """Give every representative the first reason that any of its labels is frozen for."""
    none = np.iinfo(np.int32).max
    given = store.frozen[: store.count]
    first = np.full(store.count, none, dtype=np.int32)
    np.minimum.at(first, roots, np.where(given > 0, given, none))
    return np.where(first == none, 0, first).astype(np.int32)


def _agree(store: Store) -> bool:
    """Tie the parts of two definitions of one label: both must live exactly when it does."""
    changed = False
    first_definition = np.full(store.count, -1, dtype=np.int64)
    first_position = np.zeros(store.count, dtype=np.int64)
    for index, (ids, parts) in enumerate(store.definitions):
        roots = store.find(ids)
        known = first_definition[roots]
        for other in np.unique(known[known >= 0]).tolist():
            here = np.flatnonzero(known == other)
            there = first_position[roots[here]]
            other_parts = store.definitions[other][1]
            if len(parts) == len(other_parts):
                for a, b in zip(parts, other_parts, strict=True):
                    changed |= store.tie(a[here], b[there])
            else:  # cut differently: all labels concerned become one
                for part in (*parts, *other_parts):
                    where = here if any(part is p for p in parts) else there
                    changed |= store.tie(parts[0][here], part[where])
        fresh = np.flatnonzero(known < 0)
        unique, first = np.unique(roots[fresh], return_index=True)
        first_definition[unique] = index
        first_position[unique] = fresh[first]
        if len(unique) < len(fresh):  # labels of this very split have become one
            there = first_position[roots[fresh]]
            for part in parts:
                changed |= store.tie(part[fresh], part[there])
        for part in parts:
            own = store.find(part) == store.find(ids)
            for sibling in parts if own.any() else ():
                # It lives exactly when it and the sibling do: the sibling must outlive it.
                other = sibling[own & (store.find(sibling) != store.find(ids))]
                if other.size and not _all_frozen(store, other):
                    store.freeze(other, Reason("holds channels that go only as a whole"))
                    changed = True
    return changed


def _all_frozen(store: Store, ids: Units) -> bool:
    return bool((store.frozen[ids] > 0).all())


def _freeze_parts(store: Store) -> bool:
    """Freeze what frozen labels are defined by."""
    changed = False
    roots = store.find(np.arange(store.count))
    reasons = _class_reasons(store, roots)
    for ids, parts in store.definitions:
        given = reasons[roots[ids]]
        for code in np.unique(given[given > 0]).tolist():
            here = given == code
            for part in parts:
                if not (reasons[roots[part[here]]] > 0).all():
                    _freeze_as(store, part[here], store.reasons[code])
                    changed = True
    return changed


def _freeze_as(store: Store, ids: Units, reason: Reason) -> None:
    fresh = ids[store.frozen[ids] == 0]
    if reason in store.reasons:
        store.frozen[fresh] = store.reasons.index(reason)
    else:
        store.freeze(ids, reason)
