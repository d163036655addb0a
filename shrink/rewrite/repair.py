"""Mend sizes that modules store as plain integers, with the predicted graph as the oracle.

A module is asked to run on fake tensors of the predicted shapes; only if it then calls exactly the
operators that the prediction has, with its literals and shapes, are its stored sizes right.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx, nn

from shrink.core.errors import CaptureError
from shrink.core.graph import Graph, ModuleCall, map_nodes, shapes_of
from shrink.core.inputs import Inputs
from shrink.rewrite.predict import Prediction, literals
from shrink.rewrite.sizes import find_resizer
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
    touched = _touched_calls(graph, prediction)
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


def _touched_calls(graph: Graph, prediction: Prediction) -> set[int]:
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
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]  # an op
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return any(
        isinstance(v, int | float) and not isinstance(v, bool)
        for k, value in given.items()
        if k not in _POSITIONAL
        for v in (value if isinstance(value, tuple | list) else [value])
    )


def agrees(
    module: nn.Module, graph: Graph, index: int, prediction: Prediction, record: Record
) -> bool:
    """Tell whether a module, run at the predicted shapes, calls exactly the predicted operators."""
    call = graph.calls[index]
    try:
        device = "cpu" if graph.capture == "real" else "meta"
        inputs = make_arguments(call, prediction.shapes, device=device)
        found = record(module, inputs, path=call.path, worlds=_worlds(graph))
    except CaptureError:
        return False
    expected = graph.ops[call.start : call.stop]
    return len(found.ops) == len(expected) and all(
        _same(a, b, prediction) for a, b in zip(found.ops, expected, strict=True)
    )


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
    """Write arguments without their tensors, for comparison."""
    if isinstance(value, fx.Node):
        return "tensor"
    if isinstance(value, torch.device):
        return "device"  # captures differ in it
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


@dataclass(frozen=True)
class _Edit:
    """One stored integer (or sequence of integers) and the value it may have to take."""

    holder: Any
    name: str
    old: Any
    new: Any

    def apply(self) -> None:
        vars(self.holder)[self.name] = self.new

    def undo(self) -> None:
        vars(self.holder)[self.name] = self.old


class Repairs:
    """What made modules of a class fit so far: attribute names, or None if nothing did."""

    def __init__(self) -> None:
        self.by_class: dict[type[nn.Module], tuple[str, ...] | None] = {}


def repair(
    module: nn.Module,
    graph: Graph,
    index: int,
    prediction: Prediction,
    record: Record,
    learned: Repairs,
) -> tuple[str, ...] | None:
    """Find stored sizes whose new values make a module fit the prediction.

    Args:
        module: of the sliced copy; its attributes are changed if that makes it agree.
        index: which of `graph.calls`.
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
    if agrees(module, graph, index, prediction, record):
        return ()
    kind = type(module)
    known = learned.by_class.get(kind, ())
    if known is None:
        return None
    edits = list(_candidates(module, graph, index, prediction))
    likely = [e for e in edits if e.name in known]
    for trial in ([likely] if likely else []) + list(_trials(edits)):
        for edit in trial:
            edit.apply()
        if agrees(module, graph, index, prediction, record):
            learned.by_class[kind] = tuple(dict.fromkeys(e.name for e in trial))
            return learned.by_class[kind]
        for edit in reversed(trial):
            edit.undo()
    learned.by_class[kind] = None
    return None


def _own(graph: Graph, index: int) -> Iterator[fx.Node]:
    call = graph.calls[index]
    return (n for n in graph.ops[call.start : call.stop] if n.meta["call"] == index)


def _trials(edits: list[_Edit]) -> Iterator[list[_Edit]]:
    """All at once, then by attribute name, then singly: most modules need one of the first."""
    if not edits:
        return
    yield edits
    names = sorted({e.name for e in edits})
    count = 1
    for name in names if len(names) > 1 else ():
        yield [e for e in edits if e.name == name]
        yield [e for e in edits if e.name != name]
        count += 2
        if count > _MOST_TRIALS:
            return


def _candidates(
    module: nn.Module, graph: Graph, index: int, prediction: Prediction
) -> Iterator[_Edit]:
    """List stored sizes that equal a size or literal that changes."""
    changes: dict[int, int] = {}
    call = graph.calls[index]
    for node in graph.ops[call.start : call.stop]:
        for before, after in zip(
            shapes_of(node.meta["val"]), prediction.shapes[node.name], strict=True
        ):
            changes.update((a, b) for a, b in zip(before, after, strict=True) if a != b)
    for node in _own(graph, index):
        if node.name in prediction.calls:
            _pair((node.args, dict(node.kwargs)), literals(node, prediction), changes)
    for holder in module.modules():
        if find_resizer(holder) is not None:
            continue
        for name, value in list(vars(holder).items()):
            new = _changed(value, changes)
            if new is not None:
                yield _Edit(holder, name, value, new)


def _pair(before: Any, after: Any, changes: dict[int, int]) -> None:
    if isinstance(before, tuple | list) and isinstance(after, tuple | list):
        for a, b in zip(before, after, strict=False):
            _pair(a, b, changes)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before:
            _pair(before[key], after.get(key), changes)
    elif type(before) is int and type(after) is int and before != after:
        changes[before] = after


def _changed(value: Any, changes: Mapping[int, int]) -> Any:
    if type(value) is int:
        return changes.get(value)
    if isinstance(value, tuple | list) and value and all(type(v) is int for v in value):
        new = type(value)(changes.get(v, v) for v in value)
        return new if new != value else None
    return None
