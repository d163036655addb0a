"""Widths and costs as exact functions of the kept counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups, Dim, Polynomial
from shrink.groups.partition import terms_of

Terms = dict[tuple[int, ...], float]


class Size:
    """A size that depends on kept counts: a sum of products, closed under `+` and `*`."""

    __slots__ = ("terms",)

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def __add__(self, other: "Size | int") -> "Size":
        terms = dict(self.terms)
        for factors, coefficient in _terms(other).items():
            terms[factors] = terms.get(factors, 0.0) + coefficient
        return Size(terms)

    def __mul__(self, other: "Size | int") -> "Size":
        if isinstance(other, int | float):
            return Size({f: c * other for f, c in self.terms.items()})
        terms: Terms = {}
        for f, c in self.terms.items():
            for g, d in other.terms.items():
                key = tuple(sorted(f + g))
                terms[key] = terms.get(key, 0.0) + c * d
        return Size(terms)

    __radd__ = __add__
    __rmul__ = __mul__


def _terms(value: "Size | int | float") -> Terms:
    return value.terms if isinstance(value, Size) else {(): float(value)}


def polynomial(sizes: list[Size | int]) -> Polynomial:
    """Pack sizes for evaluation at many counts at once; one row per size."""
    coefficients, factors, rows = [], [], []
    for row, size in enumerate(sizes):
        for key, coefficient in _terms(size).items():
            coefficients.append(coefficient)
            factors.append(key)
            rows.append(row)
    width = max((len(f) for f in factors), default=0)
    padded = np.full((len(factors), width), -1, dtype=np.int64)
    for i, key in enumerate(factors):
        padded[i, : len(key)] = key
    return Polynomial(
        np.array(coefficients, dtype=np.float64), padded, np.array(rows, dtype=np.int64), len(sizes)
    )


@dataclass(eq=False)
class Widths:
    """The size of every dimension of every tensor, as a function of the kept counts."""

    groups: ChannelGroups
    _known: dict[int, "Size | int"]

    def of(self, dim: Dim) -> "Size | int":
        """Write the size of a dimension: an int if it never changes."""
        if not dim.labels:
            return dim.size
        key = id(dim)
        if key not in self._known:
            sizes = [g.size for g in self.groups.groups]
            # All rows of a ragged dimension keep equally many: the first speaks for all.
            arrays = [x.ids.reshape(-1, x.ids.shape[-1])[0] for x in dim.labels]
            self._known[key] = Size(terms_of(arrays, self.groups.group_of, sizes))
        return self._known[key]

    def shapes(self, node: str) -> tuple[tuple["Size | int", ...], ...]:
        """Write the shapes of the tensors that a node returns."""
        return tuple(tuple(self.of(d) for d in value) for value in self.groups.values[node])


def widths(groups: ChannelGroups) -> Widths:
    """Prepare the widths of a graph."""
    return Widths(groups, {})


def cost_of_params(graph: Graph, groups: ChannelGroups, parameters: set[str]) -> Polynomial:
    """Count parameter elements, shared ones once, as a function of the kept counts."""
    sizes = [g.size for g in groups.groups]
    axes: dict[str, dict[int, Size]] = {}
    for axis in groups.axes:
        axes.setdefault(axis.tensor, {})[axis.dim] = Size(
            terms_of(axis.units, groups.group_of, sizes)
        )
    total: Size = Size({})
    for name, tensor in graph.stored.items():
        if name in parameters:
            count: Size | int = 1
            for dim, n in enumerate(tensor.shape):
                count = count * axes.get(name, {}).get(dim, n)
            total = total + count
    return polynomial([total])


Formula = Callable[[tuple[Any, ...], Mapping[str, Any], tuple[Any, ...]], Any]


def cost_of_macs(
    graph: Graph,
    groups: ChannelGroups,
    find_formula: Callable[[Any], Formula | None],
) -> Polynomial:
    """Count multiply-adds as a function of the kept counts.

    Args:
        find_formula: operator -> what it costs as a function of shapes (`shrink.rules.cost`).
    """
    known = widths(groups)
    shapes = {name: known.shapes(name) for name in groups.values}
    total: Size = Size({})

    def shape_of(value: Any) -> Any:
        return shapes[value.name][0]

    for node in graph.ops:
        formula = find_formula(node.target)
        if formula is not None:
            args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), shape_of)
            total = total + formula(args, kwargs, shapes[node.name])
    return polynomial([total])
