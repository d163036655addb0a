"""Make the smaller model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from shrink.core.errors import CaptureError, RewriteError
from shrink.core.graph import Graph, selects_by_value, shapes_of
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, enlarge_batch
from shrink.core.plan import Plan
from shrink.rewrite.graft import Variants, graft
from shrink.rewrite.predict import Kept, Prediction, literals, predict
from shrink.rewrite.repair import Record, Repairs, find_suspects, make_arguments, repair
from shrink.rewrite.sizes import find_resizer
from shrink.rewrite.slice import slice_copy
from shrink.rules.site import bind


@dataclass(frozen=True, eq=False)
class Rewrite:
    """The smaller model and how it came about.

    Args:
        form: `"module"` (the user's classes throughout), `"grafts"` (some replaced), `"program"`
            (the whole model replaced).
        grafts: path and class of every replaced module, and why.
        repairs: module path -> attributes that were given new values.
    """

    model: nn.Module
    form: str
    grafts: tuple[Mapping[str, str], ...]
    repairs: Mapping[str, tuple[str, ...]]


def rewrite(
    model: nn.Module,
    inputs: Inputs,
    graph: Graph,
    groups: ChannelGroups,
    plan: Plan,
    kept: Kept,
    *,
    record: Record,
) -> Rewrite:
    """Copy the model without the channels that the plan removes.

    Args:
        model: left untouched.
        kept: the surviving units of `groups`, shape (units + 1,).
        record: captures a module (`shrink.capture.dispatch.record`).

    Raises:
        RewriteError: the model cannot be copied, or no form of it computes what is predicted.
    """
    smaller = slice_copy(model, plan.keep)
    prediction = predict(graph, groups, kept)
    _resize_known(smaller, graph, prediction)
    repairs: dict[str, tuple[str, ...]] = {}
    grafts: list[Mapping[str, str]] = []
    learned = Repairs()
    inlined: set[int] = set()
    batched = _Batched(model, inputs, graph, record)
    for index in _inner_first(graph, find_suspects(smaller, graph, prediction)):
        path = graph.calls[index].path
        if any(g["module"] == path or path.startswith(f"{g['module']}.") for g in grafts):
            continue
        module = smaller.get_submodule(path)
        changed = repair(module, graph, index, prediction, record, learned)
        if changed is not None:
            if changed:
                repairs[path] = changed
            continue
        call = graph.calls[index]
        if any(selects_by_value(n) for n in graph.ops[call.start : call.stop]):
            continue  # its sizes may depend on data; the certificate tells whether it fits
        smaller, replaced = _graft(
            smaller, model, graph, index, prediction, batched, record, inlined
        )
        grafts = [g for g in grafts if g["module"] != replaced["module"]] + [replaced]
    if graph.training is not None:
        _check_training(smaller, inputs, record)
    form = "program" if any(not g["module"] for g in grafts) else "grafts" if grafts else "module"
    return Rewrite(smaller, form, tuple(grafts), repairs)


def _check_training(smaller: nn.Module, inputs: Inputs, record: Record) -> None:
    """Make sure that branches which only training runs still fit."""
    try:
        record(smaller, enlarge_batch(inputs), training=True)
    except CaptureError as error:
        raise RewriteError(
            f"its training-only branches no longer fit: {error.what}",
            where=error.where,
            fix=f"keep=[{error.where!r}]",
        ) from error


def _inner_first(graph: Graph, indices: Sequence[int]) -> list[int]:
    return sorted(indices, key=lambda i: (-graph.calls[i].path.count("."), i))


def _resize_known(smaller: nn.Module, graph: Graph, prediction: Prediction) -> None:
    """Update the sizes that torch.nn's own modules store."""
    given: dict[str, dict[str, Any]] = {}
    for node in graph.ops:
        if node.name in prediction.calls:
            path = graph.calls[node.meta["call"]].path
            given[path] = bind(node.target, *literals(node, prediction))
    for path, module in smaller.named_modules():
        resizer = find_resizer(module)
        if resizer is not None:
            resizer(module, given.get(path, {}))


class _Batched:
    """The same graph at another batch size, captured when first asked for."""

    def __init__(self, model: nn.Module, inputs: Inputs, graph: Graph, record: Record) -> None:
        self.model = model
        self.inputs = inputs
        self.graph = graph
        self.record = record
        self._known: Graph | None = None
        self._tried = False

    def __call__(self) -> Graph | None:
        if not self._tried:
            self._tried = True
            try:
                worlds = (self.graph.capture,)
                found = self.record(self.model, enlarge_batch(self.inputs), worlds=worlds)
            except CaptureError:
                return None
            if [n.target for n in found.ops] == [n.target for n in self.graph.ops]:
                self._known = found
        return self._known


def _graft(
    smaller: nn.Module,
    model: nn.Module,
    graph: Graph,
    index: int,
    prediction: Prediction,
    batched: _Batched,
    record: Record,
    inlined: set[int],
) -> tuple[nn.Module, Mapping[str, str]]:
    """Replace a module, or the smallest one around it for which that is possible.

    Args:
        inlined: calls written out so far instead of calling their modules; added to.
    """
    reason = ""
    while index >= 0:
        path = graph.calls[index].path
        module = smaller.get_submodule(path)
        variants = _variants(model, graph, index, batched(), record)
        try:
            original = model.get_submodule(path)
            new = graft(module, original, graph, index, prediction, variants, inline=inlined)
        except RewriteError as error:
            reason = str(error)
            inlined.add(index)
            index = graph.calls[index].parent
            continue
        why = "its forward computes sizes that no stored attribute decides"
        note = "" if variants.batched else "; fixed to the batch size of the example inputs"
        entry = {
            "module": path,
            "class": type(model.get_submodule(path)).__qualname__,
            "reason": why + note,
        }
        return _replace(smaller, path, new), entry
    raise RewriteError(f"no module can be replaced: {reason}", where=type(model).__name__)


def _replace(root: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    old = root.get_submodule(path)
    for parent in root.modules():  # a shared module stands in several places
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
    return root


def _variants(
    model: nn.Module, graph: Graph, index: int, batched: Graph | None, record: Record
) -> Variants:
    own = _own_nodes(graph, index)
    trained: list[fx.Node] = []
    call = graph.calls[index]
    shapes = {n.name: shapes_of(n.meta["val"]) for n in graph.fx.nodes if "val" in n.meta}
    try:
        local = record(
            model.get_submodule(call.path),
            make_arguments(call, shapes, device="cpu" if graph.capture == "real" else "meta"),
            path=call.path,
            training=True,
            worlds=(graph.capture,),
        )
        trained = _own_nodes(local, 0)
    except CaptureError:
        trained = []
    if [n.target for n in trained] != [n.target for n in own]:
        trained = []
    twins = batched.ops if batched else ()
    return Variants(
        batched.calls[index] if batched else None,
        {a.name: b for a, b in zip(graph.ops, twins, strict=False)},
        {a.name: b for a, b in zip(own, trained, strict=False)},
    )


def _own_nodes(graph: Graph, index: int) -> list[fx.Node]:
    call = graph.calls[index]
    return [n for n in graph.ops[call.start : call.stop] if n.meta["call"] == index]
