"""Values that are known although no tensor has data: those that depend on literals alone.

`torch.arange(n).tolist()`, `if mask.any()` on a mask made from sizes, a buffer that says whether
something was initialised: Python code reads such values and decides by them. They are worked out
when they are read, by the operators recorded so far.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

from shrink.core.graph import tensors_of

_READERS = frozenset(
    {
        "aten.item.default",
        "aten.is_nonzero.default",
        "aten.equal.default",
        "aten.allclose.default",
        "aten.nonzero.default",
        "aten.nonzero_numpy.default",
        "aten._unique2.default",
        "aten.unique_dim.default",
        "aten.unique_consecutive.default",
        "aten.bincount.default",
        "aten.repeat_interleave.Tensor",
    }
)
SELECTORS = frozenset(
    {"aten.index.Tensor", "aten.masked_select.default", "aten.repeat_interleave.self_Tensor"}
)
"""Operators whose arguments but the first decide the shape of the result."""
_LARGEST = 1 << 22  # elements of one tensor; beyond it nothing is worked out


def reads_values(operator: Any, args: tuple[Any, ...]) -> bool:  # Any: no public type
    """Tell whether an operator cannot run without the values of its arguments."""
    name = str(operator)
    if name == "aten.where.default":
        return len(args) == 1
    if name == "aten.index.Tensor":
        return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
    return name in _READERS or name in SELECTORS


class Known:
    """Works out the values of nodes that depend on nothing but literals.

    Args:
        stored: gives the data of a `get_attr` node, or None if it is not to be relied on.
    """

    def __init__(self, stored: Callable[[fx.Node], Tensor | None]) -> None:
        self.stored = stored
        self.position: dict[fx.Node, int] = {}
        self.writes: dict[int, list[fx.Node]] = {}  # by storage

    def note(self, node: fx.Node) -> None:
        """Remember an operator that was recorded."""
        self.position[node] = len(self.position)
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            for source in node.all_input_nodes:
                for tensor in tensors_of(source.meta["val"]):
                    self.writes.setdefault(_storage(tensor), []).append(node)

    def values(self, nodes: list[fx.Node]) -> list[Any] | None:
        """Work out what nodes hold now; None if that depends on more than literals."""
        needed = self._needed(nodes)
        if needed is None:
            return None
        found: dict[fx.Node, Any] = {}
        for node in sorted(needed, key=lambda n: self.position.get(n, -1)):
            found[node] = self._value(node, found)
        return [found[n] for n in nodes]

    def _needed(self, nodes: list[fx.Node]) -> set[fx.Node] | None:
        needed: set[fx.Node] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node in needed:
                continue
            tensors = tensors_of(node.meta["val"])
            if (
                node.op == "placeholder"
                or (node.op == "get_attr" and self.stored(node) is None)
                or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
                or any(t.numel() > _LARGEST for t in tensors)
            ):
                return None
            needed.add(node)
            waiting += node.all_input_nodes
            for tensor in tensors:
                waiting += self.writes.get(_storage(tensor), ())
        return needed

    def _value(self, node: fx.Node, found: dict[fx.Node, Any]) -> Any:
        if node.op == "get_attr":
            data = self.stored(node)
            return data.clone() if data is not None else None
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), found.__getitem__)
        kwargs = {k: "cpu" if isinstance(v, torch.device) else v for k, v in kwargs.items()}
        args = tuple("cpu" if isinstance(v, torch.device) else v for v in args)
        return node.target(*args, **kwargs)  # type: ignore[operator]  # an operator


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


_FROM_NUMBERS = frozenset({torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor})
_TO_PYTHON = frozenset({torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__})


class OnReal(TorchFunctionMode):
    """Notes the tensors whose numbers leave torch; what Python makes of them is not seen.

    Args:
        leave: is told of every such tensor.
    """

    def __init__(self, leave: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.leave = leave

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        if func in _TO_PYTHON:
            self.leave(args[0])
            with _disable_current_modes():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class OnMeta(DeviceContext):
    """Makes tensors without data, but for those made from Python's numbers, and gives these back.

    Args:
        read: gives the data of a tensor that has none, or None if it is not known.
    """

    def __init__(self, read: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__(torch.device("meta"))
        self.read = read

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        kwargs = kwargs or {}
        if func in _FROM_NUMBERS and not isinstance(args[-1] if args else None, Tensor):
            return func(*args, **{**kwargs, "device": "cpu"})
        if func in _TO_PYTHON:
            data = self.read(args[0]) if args[0].is_meta else args[0]
            if data is not None:
                with _disable_current_modes():  # nothing of it is the model's
                    return func(data, *args[1:], **kwargs)
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
