"""What a rule sees: one call of an operator, its arguments by name, the labels of its tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Reason, Store, Value

_EXTENT = "extent of a kernel or table"


@cache
def signature(operator: Any) -> tuple[tuple[str, Any], ...]:  # Any: no public type
    """List the parameter names of an operator with their defaults."""
    return tuple((a.name, a.default_value) for a in operator._schema.arguments)


def bind(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call by the operator's schema, defaults included."""
    named = dict(signature(operator))
    for (name, _), value in zip(signature(operator), args, strict=False):
        named[name] = value
    named.update(kwargs)
    return named


def unbind(operator: Any, named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Write named arguments as a call again: positional as far as the schema allows."""
    args, kwargs = [], {}
    for argument in operator._schema.arguments:
        value = named[argument.name]
        if argument.kwarg_only:
            if value != argument.default_value:
                kwargs[argument.name] = value
        else:
            args.append(value)
    positional = [a for a in operator._schema.arguments if not a.kwarg_only]
    while args and positional[len(args) - 1].has_default_value():
        default = positional[len(args) - 1].default_value
        if type(args[-1]) is not type(default) or args[-1] != default:
            break
        args.pop()
    return tuple(args), kwargs


@dataclass(eq=False)
class Site:
    """One operator call while labels flow through the graph.

    Args:
        store: where ties, freezes and balances are recorded.
        operator: the ATen overload.
        arguments: by name; tensors are `Value`s, lists of tensors are lists of `Value`s.
        shapes: shape of every tensor it returns.
        where: module path and source line, for reasons.
        packed: arguments whose elements lie in order, from the start of their memory.
    """

    store: Store
    operator: Any
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    where: str
    packed: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        """Read an argument by its name in the schema."""
        return self.arguments[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first tensor it returns."""
        return self.shapes[0]

    def values(self) -> list[Value]:
        """List the tensors among the arguments."""
        found: list[Value] = []
        for value in self.arguments.values():
            if isinstance(value, Value):
                found.append(value)
            elif isinstance(value, list | tuple):
                found += [v for v in value if isinstance(v, Value)]
        return found

    def because(self, text: str) -> Reason:
        """Make a reason that names this place."""
        return Reason(text, self.where)

    def freeze(self, value: Value, dims: Sequence[int], text: str) -> None:
        """Freeze dimensions of an argument."""
        for dim in dims:
            labels.freeze_dim(self.store, value, dim, self.because(text))

    def fix(self, value: Value, dims: Sequence[int], text: str = _EXTENT) -> None:
        """Freeze dimensions that nobody expects to shrink (a kernel's extent, a vocabulary).

        Args:
            text: the reason, where something that was expected to shrink comes to stand there.
        """
        for dim in dims:
            if value.labels[dim] is None:
                labels.adopt(self.store, value, dim, (), Reason(_EXTENT))
            else:
                labels.freeze_dim(self.store, value, dim, self.because(text))

    def freeze_all(self, text: str) -> None:
        """Freeze every dimension of every tensor argument."""
        for value in self.values():
            labels.freeze_value(self.store, value, self.because(text))

    def unlabelled(self) -> Value | list[Value]:
        """Make results of which nothing can be removed."""
        made = [labels.unlabelled(s) for s in self.shapes]
        return made[0] if len(made) == 1 else made

    def tie(self, a: Value, dim_a: int, b: Value, dim_b: int) -> None:
        """Tie two equally long dimensions index by index."""
        labels.tie_dims(
            self.store, a, dim_a, b, dim_b, self.because("meets a dimension of fixed size")
        )

    def labels(self, value: Value, dim: int) -> tuple[Label, ...]:
        """Read the labels of a dimension, the same for all indices of other dimensions."""
        return labels.flat(self.store, value, dim)


@dataclass(eq=False)
class Call:
    """One operator call after planning: the sizes of its tensors before and after.

    Args:
        operator: the ATen overload.
        arguments: by name; tensors are graph nodes.
        before, after: shapes of the tensors it returns.
        inputs_before, inputs_after: shape of each tensor argument by name.
        kept: for a tensor argument's name and dimension, which indices survive; None where each
            row keeps its own.
    """

    operator: Any
    arguments: Mapping[str, Any]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]
    inputs_before: Mapping[str, tuple[int, ...]]
    inputs_after: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, Sequence[NDArray[np.bool_] | None]]

    def __getitem__(self, name: str) -> Any:
        """Read an argument by its name in the schema."""
        return self.arguments[name]

    def replace(self, *, factor: float = 1.0, **changed: Any) -> "Resized":
        """Write the call with some arguments changed."""
        return Resized({**self.arguments, **changed}, factor)


@dataclass(frozen=True)
class Resized:
    """A call with new literals, and a constant that its result must be multiplied with."""

    arguments: Mapping[str, Any]
    factor: float = 1.0
