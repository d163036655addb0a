"""Mend sizes that modules store as plain integers, with the predicted graph as the oracle.

A module is asked to run on fake tensors of the predicted shapes; only if it then calls exactly the
operators that the prediction has, with its literals and shapes, are its stored sizes right.
"""

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx, nn

from shrink.core.errors import CaptureError
from shrink.core.graph import Graph, ModuleCall, map_nodes, shapes_of
from shrink.core.inputs import Inputs
from shrink.rewrite.predict import Prediction, literals
from shrink.rewrite.sizes import find_resizer
from shrink.rewrite.stored import Edit, apply, find_edits
from shrink.rules.site import bind

# Arguments that name dimensions and positions, never a width.
_POSITIONAL = frozenset(
    {
        "dim",
        "dims",
        "dim0",
        "dim1",
        "start_dim",
        "end_dim",
        "axis0",
        "axis1",
        "keepdim",
        "dimension",
        "output_size",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
        "p",
        "train",
        "eps",
        "momentum",
        "dtype",
        "layout",
        "device",
        "pin_memory",
        "memory_format",
        "copy",
        "implicit",
        "cudnn_enabled",
        "cudnn_enable",
        "approximate",
        "inplace",
        "alpha",
        "beta",
        "negative_slope",
        "min_val",
        "max_val",
        "threshold",
        "mode",
        "align_corners",
        "scales_h",
        "scales_w",
        "scale_factors",
        "half_to_float",
        "correction",
        "non_blocking",
        "is_causal",
    }
)
_MOST_TRIALS = 24


class Record(Protocol):
    """Records a forward pass (`shrink.capture.dispatch.record`)."""

    def __call__(
        self,
        model: nn.Module,
        inputs: Inputs,
        *,
        path: str = "",
        training: bool = False,
        worlds: Sequence[str] = ("meta", "fake"),
    ) -> Graph:
        """Return the graph."""
        ...


def find_suspects(model: nn.Module, graph: Graph, prediction: Prediction) -> list[int]:
    """List the calls whose own operators have literals that may follow a removed width.

    Modules of torch.nn whose sizes are known by class are not among them.
    """
    owners: dict[int, None] = {}
    known: dict[str, bool] = {}
    touched = touched_calls(graph, prediction)
    for node in graph.ops:
        call = node.meta["call"]
        if call in owners:
            continue
        changed = node.name in prediction.calls
        if not changed and (
            graph.capture == "real" or call not in touched or not _has_number(node)
        ):
            continue
        path = graph.calls[call].path
        if path not in known:
            known[path] = find_resizer(model.get_submodule(path)) is not None
        if not known[path] and (changed or not _is_of_torch_nn(model.get_submodule(path))):
            owners[call] = None
    return list(owners)


def touched_calls(graph: Graph, prediction: Prediction) -> set[int]:
    """List the calls that see a width change, in their arguments or their own operators."""
    found = set()
    for index, call in enumerate(graph.calls):
        given: list[fx.Node] = []
        map_nodes((call.args, dict(call.kwargs)), given.append)
        if any(n.name in prediction.resized for n in given):
            found.add(index)
    for node in graph.ops:
        if node.name in prediction.resized or any(
            n.name in prediction.resized for n in node.all_input_nodes
        ):
            found.add(node.meta["call"])
    return found


def _is_of_torch_nn(module: nn.Module) -> bool:
    is_torchs = type(module).__module__.startswith("torch.nn.")
    return is_torchs and next(module.children(), None) is None


def _has_number(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return False
    if any("constant" in n.meta for n in node.all_input_nodes):  # `torch.tensor(channels)`
        return True
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]  # an op
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return any(
        isinstance(v, int | float) and not isinstance(v, bool)
        for k, value in given.items()
        if k not in _POSITIONAL
        for v in (value if isinstance(value, tuple | list) else [value])
    )


def agrees(
    module: nn.Module,
    graph: Graph,
    index: int,
    prediction: Prediction,
    record: Record,
    replaced: Collection[str] = (),
) -> bool:
    """Tell whether a module, run at the predicted shapes, calls exactly the predicted operators.

    Args:
        replaced: paths of the modules that were grafted; only what they return is compared.
    """
    call = graph.calls[index]
    try:
        device = "cpu" if graph.capture == "real" else "meta"
        inputs = make_arguments(call, prediction.shapes, device=device)
        found = record(module, inputs, path=call.path, worlds=_worlds(graph))
    except CaptureError:
        return False
    return find_misfit(found, graph, index, prediction, replaced) is None


def find_misfit(
    found: Graph, graph: Graph, index: int, prediction: Prediction, replaced: Collection[str]
) -> int | None:
    """Find the innermost call, in order of execution, that does not do what is predicted.

    Args:
        found: what was recorded of the smaller module.
        index: the call of `graph.calls` that corresponds to it.

    Returns:
        an index into `graph.calls`; None if everything fits.
    """
    return _Comparison(_Calls(found), _Calls(graph), prediction, replaced).misfit(0, index)


class _Calls:
    """The operators and the calls that stand directly in each call of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.own: list[list[fx.Node]] = [[] for _ in graph.calls]
        self.inner: list[list[int]] = [[] for _ in graph.calls]
        for position, node in enumerate(graph.ops):
            if position >= graph.calls[node.meta["call"]].start:
                self.own[node.meta["call"]].append(node)
        for index, call in enumerate(graph.calls):
            if call.parent >= 0:
                self.inner[call.parent].append(index)


@dataclass(frozen=True, eq=False)
class _Comparison:
    found: _Calls
    expected: _Calls
    prediction: Prediction
    replaced: Collection[str]

    def misfit(self, found: int, expected: int) -> int | None:
        call = self.expected.graph.calls[expected]
        if call.path in self.replaced:
            returned = self.found.graph.calls[found].output
            return None if self._returns(returned, call.output) else expected
        inner = self.found.inner[found], self.expected.inner[expected]
        paths = (
            [self.found.graph.calls[i].path for i in inner[0]],
            [self.expected.graph.calls[i].path for i in inner[1]],
        )
        for one, other in zip(*inner, strict=False):
            worse = self.misfit(one, other) if paths[0] == paths[1] else None
            if worse is not None:
                return worse
        own = self.found.own[found], self.expected.own[expected]
        same = paths[0] == paths[1] and len(own[0]) == len(own[1])
        if same and all(_same(a, b, self.prediction) for a, b in zip(*own, strict=True)):
            return None
        return expected

    def _returns(self, found: Any, expected: Any) -> bool:
        nodes: tuple[list[fx.Node], list[fx.Node]] = ([], [])
        map_nodes(found, nodes[0].append)
        map_nodes(expected, nodes[1].append)
        given = [shapes_of(n.meta["val"]) for n in nodes[0]]
        return given == [self.prediction.shapes[n.name] for n in nodes[1]]


def _worlds(graph: Graph) -> tuple[str, ...]:
    return ("meta", "fake", "real") if graph.capture == "real" else (graph.capture,)


def make_arguments(
    call: ModuleCall, shapes: Mapping[str, tuple[tuple[int, ...], ...]], *, device: str = "meta"
) -> Inputs:
    """Make the arguments of a call as tensors of given shapes, on "meta" without data."""
    made: dict[str, torch.Tensor] = {}  # an argument given twice is one tensor, as it was

    def make(node: fx.Node) -> torch.Tensor:
        if node.name not in made:
            dtype = node.meta["val"].dtype
            made[node.name] = torch.zeros(shapes[node.name][0], dtype=dtype, device=device)
        return made[node.name]

    args, kwargs = map_nodes((tuple(call.args), dict(call.kwargs)), make)
    return Inputs(args, kwargs)


def _same(found: fx.Node, expected: fx.Node, prediction: Prediction) -> bool:
    if found.target is not expected.target:
        return False
    rewritten = prediction.calls.get(expected.name)
    if rewritten is not None and rewritten.factor != 1.0:
        return False
    if shapes_of(found.meta["val"]) != prediction.shapes[expected.name]:
        return False
    if found.target is operator.getitem:
        return bool(found.args[1] == expected.args[1])
    given = bind(found.target, found.args, found.kwargs)
    predicted = bind(found.target, *literals(expected, prediction))
    return bool(_plain(given) == _plain(predicted))


def _plain(value: Any) -> Any:
    """Write arguments without their tensors, but for constants, for comparison."""
    if isinstance(value, fx.Node):
        constant = value.meta.get("constant")
        return "tensor" if constant is None else constant.tolist()
    if isinstance(value, torch.device):
        return "device"  # captures differ in it
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


class Repairs:
    """What made modules of a class fit so far: attribute names, or None if nothing did."""

    def __init__(self) -> None:
        self.by_class: dict[type[nn.Module], tuple[str, ...] | None] = {}


def repair(
    module: nn.Module,
    graph: Graph,
    index: int,
    prediction: Prediction,
    fits: Callable[[], bool],
    learned: Repairs,
) -> tuple[str, ...] | None:
    """Find stored sizes whose new values make a module fit the prediction.

    Args:
        module: of the sliced copy; its attributes are changed if that makes it agree.
        index: which of `graph.calls`.
        fits: tells whether it does what is predicted.
        learned: what other modules needed; blocks of a network are alike.

    Returns:
        names of the attributes changed (none if it fits as it is); None if nothing made it fit,
        the module then being as before.
    """
    if any(
        prediction.calls[n.name].factor != 1.0
        for n in _own(graph, index)
        if n.name in prediction.calls
    ):
        return None
    if fits():
        return ()
    kind = type(module)
    known = learned.by_class.get(kind, ())
    if known is None:
        return None
    prefix = f"{graph.calls[index].path}." if graph.calls[index].path else ""
    called = {c.path for c in graph.calls}  # those fit already
    holders = [m for n, m in module.named_modules() if not n or prefix + n not in called]
    edits = list(find_edits(holders, _changes(graph, index, prediction)))
    likely = [e for e in edits if e.name in known and not e.choice]
    for trial in ([likely] if likely else []) + list(_trials(edits)):
        done = apply(trial)
        if not fits():
            done.undo()
            continue
        done.undo()
        needed = _needed(trial, fits)
        apply(needed)
        learned.by_class[kind] = tuple(dict.fromkeys(e.name for e in needed))
        return learned.by_class[kind]
    learned.by_class[kind] = None
    return None


def _needed(edits: Sequence[Edit], fits: Callable[[], bool]) -> Sequence[Edit]:
    """Leave out the edits that nothing asks for: a number may equal a width by chance."""
    needed = list(edits)
    groups = [list(dict.fromkeys(e.name for e in edits))]
    while groups:
        names = groups.pop()
        fewer = [e for e in needed if e.name not in names]
        done = apply(fewer)
        if fewer and fits():
            needed = fewer
        elif len(names) > 1:
            half = len(names) // 2
            groups += [names[half:], names[:half]]
        done.undo()
    return needed


def _own(graph: Graph, index: int) -> Iterator[fx.Node]:
    call = graph.calls[index]
    return (n for n in graph.ops[call.start : call.stop] if n.meta["call"] == index)


def _trials(edits: Sequence[Edit]) -> Iterator[list[Edit]]:
    """All at once, then by name, then all but one name: most modules need one of the first."""
    for choice in range(1 + max((e.choice for e in edits), default=-1)):
        last = {(id(e.holder), e.place): e for e in edits if e.choice <= choice}
        yield list(last.values())
    names = sorted({e.name for e in edits})
    for name in names[: _MOST_TRIALS // 2] if len(edits) > 1 else ():
        for choice in range(1 + max(e.choice for e in edits if e.name == name)):
            yield [e for e in edits if e.name == name and e.choice == choice]
        yield [e for e in edits if e.name != name and not e.choice]


def _changes(graph: Graph, index: int, prediction: Prediction) -> dict[int, list[int]]:
    """List the sizes that change in a call, and to what, the commonest first."""
    pairs: Counter[tuple[int, int]] = Counter()
    call = graph.calls[index]
    nodes = list(graph.ops[call.start : call.stop])
    map_nodes((call.args, dict(call.kwargs)), nodes.append)
    for node in nodes:
        for before, after in zip(
            shapes_of(node.meta["val"]), prediction.shapes[node.name], strict=True
        ):
            pairs.update((a, b) for a, b in zip(before, after, strict=True) if a != b)
    for node in _own(graph, index):
        if node.name in prediction.calls:
            pairs.update(_pairs((node.args, dict(node.kwargs)), literals(node, prediction)))
    found: dict[int, list[int]] = {}
    for (before_, after_), _ in pairs.most_common():
        found.setdefault(before_, []).append(after_)
    return found


def _pairs(before: Any, after: Any) -> Iterator[tuple[int, int]]:
    if isinstance(before, tuple | list) and isinstance(after, tuple | list):
        for a, b in zip(before, after, strict=False):
            yield from _pairs(a, b)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before:
            yield from _pairs(before[key], after.get(key))
    elif type(before) is int and type(after) is int and before != after:
        yield before, after
