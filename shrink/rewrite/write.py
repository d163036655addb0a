"""Write one module call as Python source: its own operators, and calls of its submodules."""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from shrink.core.errors import RewriteError
from shrink.core.graph import Graph, ModuleCall, map_nodes, shapes_of
from shrink.rewrite.follow import Formula, Source, find_formula
from shrink.rewrite.predict import Prediction, literals
from shrink.rules.site import bind, unbind

aten = torch.ops.aten
_RESHAPES = frozenset({aten.view.default, aten.reshape.default, aten._unsafe_view.default})


class Absent:
    """Stands for a literal that a capture does not have."""


ABSENT = Absent()


class UnfitError(Exception):
    """A literal differs between captures and no formula gives it.

    Args:
        captures: which of them differ from the first, by position.
    """

    def __init__(self, captures: list[int]) -> None:
        super().__init__(captures)
        self.captures = captures


@dataclass(frozen=True)
class Slot:
    """The place of a value in a nested structure."""

    index: int


@dataclass(frozen=True, eq=False)
class Captures:
    """One module call, captured several times.

    Args:
        graph: the capture that is written.
        index: the call in `graph.calls`.
        prediction: what becomes of its sizes.
        others: captures alike but for the sizes of the inputs, and the call in each.
        trained: node name -> the same operator in training mode.
        inline: calls inside it that must be written out instead of calling their modules.
    """

    graph: Graph
    index: int
    prediction: Prediction
    others: Sequence[tuple[Graph, int]] = ()
    trained: Mapping[str, fx.Node] = field(default_factory=dict)
    inline: Collection[int] = ()

    @property
    def call(self) -> ModuleCall:
        """The call as captured."""
        return self.graph.calls[self.index]


@dataclass(frozen=True, eq=False)
class Written:
    """Source code of a call, and what it needs.

    Args:
        code: of `forward(self, *leaves)`, returning a tuple of the values in `output`.
        output: what the call returns, with `Slot`s for what the code computes.
        constants: name -> tensor that the code reads from the module.
    """

    code: str
    output: Any
    constants: Mapping[str, Tensor]


def leaves_of(value: Any) -> list[Any]:
    """List what stands in nested tuples, lists and dicts, in order."""
    if isinstance(value, Mapping):
        return [leaf for part in value.values() for leaf in leaves_of(part)]
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in leaves_of(part)]
    return [value]


def write(captures: Captures, arguments: Sequence[Sequence[Any]]) -> Written:
    """Write a call.

    Args:
        arguments: for every capture, the leaves of the call's arguments.

    Raises:
        RewriteError: its operators use values from outside of it.
        UnfitError: some of its literals follow no known size.
    """
    return _Writer(captures, arguments).write()


class _Writer:
    def __init__(self, captures: Captures, arguments: Sequence[Sequence[Any]]) -> None:
        self.captures = captures
        self.graph, self.prediction = captures.graph, captures.prediction
        self.call = captures.call
        self.new = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.twins = [_twins(self.graph, captures.index, *other) for other in captures.others]
        self.constants: dict[str, Tensor] = {}
        self.modes: fx.Node | None = None
        self.sizes: dict[tuple[str, int], fx.Node] = {}
        self.arguments: list[Source[fx.Node]] = []
        self.first: fx.Node | None = None
        self.far: dict[tuple[int, ...], Source[fx.Node]] = {}  # sizes of what was computed so far
        for number, seen in enumerate(zip(*arguments, strict=True)):
            placeholder = self.new.placeholder(f"x{number}")
            if isinstance(seen[0], fx.Node):
                self.first = self.first or placeholder
                self.values[seen[0].name] = placeholder
                self.arguments += self.sizes_of(seen[0])
            elif all(type(v) is int for v in seen):
                self.arguments.append(Source(partial(_itself, placeholder), seen[0], seen))

    def write(self) -> Written:
        self.write_call(self.captures.index)
        outputs: list[Any] = []

        def slot(value: Any) -> Slot:
            outputs.append(value)
            return Slot(len(outputs) - 1)

        def fill(value: Any, *others: Any) -> Any:
            if isinstance(value, fx.Node):
                return slot(self.value(value))
            if isinstance(value, tuple | list | Mapping):
                return _rebuild(value, others, fill)
            written = self.leaf(value, value, others, ABSENT, self.arguments)
            return slot(written) if isinstance(written, fx.Node) else value

        others = [graph.calls[index].output for graph, index in self.captures.others]
        output = fill(self.call.output, *others)
        self.new.output(tuple(outputs))
        self.new.lint()
        return Written(self.new.python_code("self").src, output, self.constants)

    def relative(self, name: str) -> str:
        """Name a tensor or module inside the call's own module."""
        prefix = f"{self.call.path}." if self.call.path else ""
        if not name.startswith(prefix) or name == self.call.path:
            raise RewriteError(f"uses {name} from outside", where=self.call.path)
        return name[len(prefix) :]

    def value(self, node: fx.Node) -> fx.Node:
        if node.name not in self.values:
            if node.op != "get_attr":
                raise RewriteError("uses a tensor that is not an argument", where=self.call.path)
            name = self.graph.tensors[node.name]
            if name in self.graph.constants:
                self.constants[name] = self.graph.constants[name]
            else:
                name = self.relative(name)
            self.values[node.name] = self.new.create_node("get_attr", name)
        return self.values[node.name]

    def sizes_of(self, node: fx.Node) -> list[Source[fx.Node]]:
        """List the sizes of a tensor, as sources for literals."""
        if not isinstance(node.meta["val"], Tensor):
            return []
        shapes = [shapes_of(twin.get(node.name, node).meta["val"])[0] for twin in self.twins]
        base = shapes_of(node.meta["val"])[0]
        if any(len(s) != len(base) for s in shapes):
            return []
        now = self.prediction.shapes[node.name][0]
        return [
            Source(partial(self.size, node, d), now[d], (n, *(s[d] for s in shapes)))
            for d, n in enumerate(base)
        ]

    def size(self, node: fx.Node, dim: int) -> fx.Node:
        key = node.name, dim
        if key not in self.sizes:
            size = self.new.call_method("size", (self.value(node), dim))
            # under torch.jit.trace a size is a tensor, which operators refuse
            self.sizes[key] = self._call(torch.sym_int, size)
        return self.sizes[key]

    def write_call(self, index: int) -> None:
        call = self.graph.calls[index]
        position = call.start
        for number, child in enumerate(self.graph.calls):
            if child.parent != index:
                continue
            while position < child.start:
                self.write_operator(position)
                position += 1
            if number in self.captures.inline:
                self.write_call(number)
            else:
                self.write_child(number)
            position = child.stop
        while position < call.stop:
            self.write_operator(position)
            position += 1

    def write_child(self, number: int) -> None:
        child = self.graph.calls[number]
        inside = number - self.captures.index
        twins = [graph.calls[index + inside] for graph, index in self.captures.others]
        given = child.args, dict(child.kwargs)
        near: list[Source[fx.Node]] = []
        map_nodes(given, lambda n: near.extend(self.sizes_of(n)))
        others = [(t.args, dict(t.kwargs)) for t in twins]
        args, kwargs = self.follow(given, given, others, ABSENT, near)
        result = self.new.call_module(self.relative(child.path), args, kwargs)
        self._bind(child.output, result)

    def _bind(self, output: Any, result: fx.Node) -> None:
        if isinstance(output, fx.Node):
            self.values[output.name] = result
        elif isinstance(output, tuple | list):
            for i, part in enumerate(output):
                if not isinstance(part, bool | int | float | str | None):
                    self._bind(part, self.new.call_function(operator.getitem, (result, i)))
        elif isinstance(output, Mapping):
            for key, part in output.items():
                self._bind(part, self.new.call_function(operator.getitem, (result, key)))

    def write_operator(self, position: int) -> None:
        node = self.graph.ops[position]
        self._write_operator(node)
        self.far.update((s.seen, s) for s in self.sizes_of(node) if s.varies)

    def _write_operator(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            source, item = node.args
            self.values[node.name] = self.new.call_function(
                operator.getitem,
                (self.value(source), item),  # type: ignore[arg-type]  # a node by construction
            )
            return
        twins = [twin[node.name] for twin in self.twins]
        if any(t.target is aten.alias.default for t in (node, *twins)):
            self.values[node.name] = self.write_slices(node, twins)
            return
        # By name: a literal that equals its default is left out of a captured call.
        named = bind(node.target, *literals(node, self.prediction))
        others = [_arguments(twin) for twin in twins]
        train = _arguments(self.captures.trained.get(node.name))
        near = [s for operand in node.all_input_nodes for s in self.sizes_of(operand)]
        before = _arguments(node)
        written = {
            name: self.follow(
                value,
                before[name],
                [o.get(name, ABSENT) for o in others],
                train.get(name, ABSENT),
                near,
                infer=node.target in _RESHAPES and name in ("size", "shape"),
            )
            for name, value in named.items()
        }
        args, kwargs = unbind(node.target, written)
        result = self.new.call_function(node.target, args, kwargs)  # type: ignore[arg-type]  # an op
        rewritten = self.prediction.calls.get(node.name)
        if rewritten is not None and rewritten.factor != 1.0:
            result = self.new.call_function(aten.mul.Scalar, (result, rewritten.factor))
        self.values[node.name] = result

    def write_slices(self, node: fx.Node, twins: Sequence[fx.Node]) -> fx.Node:
        """Write an alias that is a slice in another capture: there it does not take everything."""
        result = self.value(node.all_input_nodes[0])
        near = self.sizes_of(node.all_input_nodes[0])
        dims = {_arguments(t)["dim"]: t for t in (node, *twins) if t.target is aten.slice.Tensor}
        for dim, cutting in dims.items():
            now = self.prediction.shapes[node.name][0][dim]
            *_, step = _arguments(cutting).values()
            bounds = [_bounds(t, dim) for t in (node, *twins)]
            start, end = self.follow((bounds[0][0], now), bounds[0], bounds[1:], ABSENT, near)
            result = self.new.call_function(cutting.target, (result, dim, start, end, step))  # type: ignore[arg-type]  # an op
        return result

    def follow(
        self,
        now: Any,
        before: Any,
        others: Sequence[Any],
        train: Any,
        near: Sequence[Source[fx.Node]],
        *,
        infer: bool = False,
    ) -> Any:
        """Write an argument: tensors by name, literals as functions of sizes and mode.

        Args:
            now: after the cut.
            before: before the cut.
            others: in the other captures.
            train: in training mode.
            near: sizes of the tensors among the arguments of the same call.
            infer: one number that follows nothing known may be left to the operator (-1).
        """
        sources = [*near, *self.arguments]
        inferred = not infer

        def one(now: Any, before: Any, *rest: Any) -> Any:
            nonlocal inferred
            if isinstance(now, fx.Node):
                return self.value(now)
            if isinstance(now, tuple | list | Mapping):
                return _rebuild(now, (before, *rest), one)
            try:
                return self.leaf(now, before, rest[:-1], rest[-1], sources)
            except UnfitError:
                if inferred:
                    raise
                inferred = True
                return -1

        return one(now, before, *others, train)

    def leaf(
        self,
        now: Any,
        before: Any,
        others: Sequence[Any],
        train: Any,
        sources: Sequence[Source[fx.Node]],
    ) -> Any:
        if isinstance(now, torch.device):
            return self._device() if self.first is not None else now
        seen = (before, *others)
        differ = [i for i, v in enumerate(others) if type(v) is not type(before) or v != before]
        if differ and not isinstance(now, Tensor):
            formula = None
            if all(type(v) is int for v in seen):
                formula = find_formula(now, seen, sources) or next(
                    (f for s in self.far.values() if (f := find_formula(now, seen, [s]))), None
                )
            if formula is None:
                raise UnfitError(differ)
            return self._write(formula)
        if train is not ABSENT and isinstance(now, bool | float) and train != before:
            return self._by_mode(now, train)
        return now

    def _write(self, formula: Formula[fx.Node]) -> fx.Node:
        top = [s.read() for s in formula.above]
        result = top[0]
        for factor in top[1:]:
            result = self._call(operator.mul, result, factor)
        if formula.pad_to:
            return self._call(operator.mod, self._call(operator.neg, result), formula.pad_to)
        if formula.multiply != 1:
            result = self._call(operator.mul, result, formula.multiply)
        divide: Any = formula.divide
        for source in formula.below:
            size = source.read()
            divide = size if divide == 1 else self._call(operator.mul, size, divide)
        if divide != 1:
            result = self._call(operator.floordiv, result, divide)
        return self._call(operator.add, result, formula.add) if formula.add else result

    def _call(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        return self.new.call_function(function, args)

    def _device(self) -> fx.Node:
        """Follow the device of the first input, wherever the module is moved."""
        return self._call(getattr, self.first, "device")

    def _by_mode(self, evaluating: Any, training: Any) -> fx.Node:
        if self.modes is None:
            self.modes = self.new.create_node("get_attr", "training")
        return self._call(operator.getitem, (evaluating, training), self.modes)


def _itself(node: fx.Node) -> fx.Node:
    return node


def _twins(graph: Graph, index: int, other: Graph, place: int) -> dict[str, fx.Node]:
    """Pair the nodes of two captures of a call."""
    calls = graph.calls[index], other.calls[place]
    operators = (g.ops[c.start : c.stop] for g, c in zip((graph, other), calls, strict=True))
    pairs = {a.name: b for a, b in zip(*operators, strict=True)}
    given: tuple[list[fx.Node], list[fx.Node]] = ([], [])
    for found, call in zip(given, calls, strict=True):
        map_nodes((call.args, dict(call.kwargs)), found.append)
    return pairs | {a.name: b for a, b in zip(*given, strict=False)}


def _bounds(node: fx.Node, dim: int) -> tuple[int, int]:
    """Say where a slice begins and ends in a dimension that it, or another like it, cuts."""
    arguments = _arguments(node)
    start = arguments["start"] if arguments.get("dim") == dim else 0
    length: int = node.meta["val"].shape[dim]
    return start or 0, (start or 0) + length


def _arguments(node: fx.Node | None) -> dict[str, Any]:
    return {} if node is None else bind(node.target, node.args, node.kwargs)


def _rebuild(value: Any, others: Sequence[Any], function: Callable[..., Any]) -> Any:
    """Apply a function to the parts of a container and to those of its counterparts."""
    if isinstance(value, Mapping):
        keys = list(value)
        made = [function(value[k], *(_part(o, k) for o in others)) for k in keys]
        filled = dict(zip(keys, made, strict=True))
        return filled if type(value) is dict else type(value)(**filled)
    alike = [o if isinstance(o, tuple | list) and len(o) == len(value) else None for o in others]
    parts = [
        function(v, *(ABSENT if o is None else o[i] for o in alike)) for i, v in enumerate(value)
    ]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _part(value: Any, key: Any) -> Any:
    return value.get(key, ABSENT) if isinstance(value, Mapping) else ABSENT
