"""What a module does in training mode besides: dropout, stochastic depth, aligned with evaluation.

In training mode a module may call operators that evaluation does not have. They are written into a
second version of its code; what both have is cut as predicted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from shrink.core.graph import Graph, map_nodes, shapes_of
from shrink.rewrite.predict import Prediction, Rewritten, literals
from shrink.rewrite.write import Captures
from shrink.rules.site import bind, unbind


@dataclass(frozen=True, eq=False)
class Note:
    """How evaluation and training compare.

    Args:
        same: node name -> the same operator in training mode, if the operators are the same.
        text: what a user should know; empty for nothing.
    """

    same: Mapping[str, fx.Node] = field(default_factory=dict)
    text: str = ""


def trained_captures(captures: Captures, local: Sequence[Graph]) -> tuple[Captures | None, Note]:
    """Prepare a call to be written as it is in training mode.

    Args:
        captures: the call in evaluation mode.
        local: the module captured alone in training mode, if it can be.

    Returns:
        the same capture in training mode, None where the code for evaluation serves both; a note.
    """
    if not local:
        return None, Note()
    graph = local[0]
    around = captures.graph.calls[captures.index :][: len(graph.calls)]
    same_calls = [c.path for c in graph.calls] == [c.path for c in around]
    pairs = _align(captures, graph) if same_calls else None
    if pairs is None:
        return None, Note(text="; trains without operators of its own that only training has")
    if len(pairs) == len(graph.ops):
        return None, Note({b.name: a for a, b in pairs})
    first, count = captures.index, len(graph.calls)
    inner = {i - first for i in captures.inline if first < i < first + count}
    return Captures(graph, 0, _predict(captures, graph, pairs), inline=inner), Note()


def _align(captures: Captures, graph: Graph) -> list[tuple[fx.Node, fx.Node]] | None:
    """Pair every operator of the evaluation with one of the training, in order.

    The operands must correspond too, where training may have put something in between.
    """
    call = captures.call
    expected = list(captures.graph.ops[call.start : call.stop])
    paths = [c.path for c in captures.graph.calls]
    stands_for = _standing_for(captures, graph)
    pairs: list[tuple[fx.Node, fx.Node]] = []
    for node in graph.ops:
        other = expected[len(pairs)] if len(pairs) < len(expected) else None
        same = (
            other is not None
            and node.target is other.target
            and graph.calls[node.meta["call"]].path == paths[other.meta["call"]]
        )
        operands = _operands(node)
        if other is not None and same and len(operands) == len(_operands(other)):
            meets = zip(operands, _operands(other), strict=True)
            if all(e.name in stands_for.get(t.name, {e.name}) for t, e in meets):
                pairs.append((node, other))
                stands_for[node.name] = {other.name}
                continue
        stands_for[node.name] = {e for t in operands for e in stands_for.get(t.name, ())}
    return pairs if len(pairs) == len(expected) else None


def _standing_for(captures: Captures, graph: Graph) -> dict[str, set[str]]:
    """Say which tensors of the evaluation the arguments and weights of the training are."""
    given = zip(_inputs(graph, 0), _inputs(captures.graph, captures.index), strict=True)
    found = {one: {other} for one, other in given}
    names = {tensor: node for node, tensor in captures.graph.tensors.items()}
    found.update((n, {names[t]}) for n, t in graph.tensors.items() if t in names)
    return found


def _operands(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    map_nodes((node.args, dict(node.kwargs)), found.append)
    return found


def _predict(
    captures: Captures, graph: Graph, pairs: Sequence[tuple[fx.Node, fx.Node]]
) -> Prediction:
    """Carry the prediction over to the operators in training mode."""
    known = captures.prediction
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
    calls: dict[str, Rewritten] = {}
    cuts: dict[tuple[int, ...], tuple[int, ...]] = {}  # shape before -> after
    same = {a.name: b for a, b in pairs}
    given = dict(zip(_inputs(graph, 0), _inputs(captures.graph, captures.index), strict=True))
    by_name = {tensor: node for node, tensor in captures.graph.tensors.items()}
    for node in graph.fx.nodes:
        if node.op == "output":
            continue
        before = shapes_of(node.meta["val"])
        twin = same.get(node.name)
        if node.name in given:
            shapes[node.name] = known.shapes[given[node.name]]
        elif node.op == "get_attr" and graph.tensors[node.name] in by_name:
            shapes[node.name] = known.shapes[by_name[graph.tensors[node.name]]]
        elif twin is not None:
            shapes[node.name] = known.shapes[twin.name]
        else:
            shapes[node.name] = tuple(cuts.get(s, s) for s in before)
        cuts.update(zip(before, shapes[node.name], strict=True))
        if node.op != "call_function":
            continue
        if twin is None:
            calls[node.name] = _cut_literals(node, cuts)
        elif twin.name in known.calls:
            predicted = bind(node.target, *literals(twin, known))
            own = bind(node.target, node.args, node.kwargs)
            merged = {name: _merge(value, own[name]) for name, value in predicted.items()}
            calls[node.name] = Rewritten(
                *unbind(node.target, merged), factor=known.calls[twin.name].factor
            )
    return Prediction(shapes, calls, frozenset())


def _inputs(graph: Graph, index: int) -> list[str]:
    call = graph.calls[index]
    found: list[str] = []
    map_nodes((call.args, dict(call.kwargs)), lambda n: found.append(n.name))
    return found


def _cut_literals(node: fx.Node, cuts: Mapping[tuple[int, ...], tuple[int, ...]]) -> Rewritten:
    """Cut the shapes that an operator of the training is given: those of noise and masks."""

    def cut(value: Any) -> Any:
        if isinstance(value, tuple | list) and all(type(v) is int for v in value):
            return type(value)(cuts.get(tuple(value), value))
        return value

    return Rewritten(tuple(map(cut, node.args)), {k: cut(v) for k, v in node.kwargs.items()})


def _merge(predicted: Any, own: Any) -> Any:
    """Take integers from the prediction; tensors and what depends on the mode from training."""
    if isinstance(predicted, tuple | list) and isinstance(own, tuple | list):
        return type(predicted)(_merge(p, o) for p, o in zip(predicted, own, strict=False))
    return predicted if type(predicted) is int else own
