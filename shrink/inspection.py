"""What can be removed from a model and what cannot, and why, without removing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from shrink.capture.capture import capture
from shrink.capture.dispatch import record
from shrink.core.errors import RewriteError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroup, ChannelGroups
from shrink.core.inputs import Inputs, as_inputs
from shrink.facts import Costs
from shrink.groups.find import find_groups
from shrink.measure.macs import count_params
from shrink.plan.choose import Choice, keep_most_important
from shrink.plan.ladder import build_ladders
from shrink.plans import write_plan
from shrink.remedies import list_frozen
from shrink.request import Progress, Stages
from shrink.rewrite.rewrite import rewrite
from shrink.rules.registry import Couple

SCHEMA_VERSION = 1

_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn", "aten::_thnn", "aten::quantized")
_ATTENTION = (
    "aten::scaled_dot_product",
    "aten::_scaled_dot_product",
    "aten::softmax",
    "aten::_softmax",
)


@dataclass(frozen=True)
class Inspection:
    """What can be removed from a model, and what cannot; `docs/INSPECT.md` has the schema.

    Args:
        groups: `name, kind, size, parts, nested, axes, structure, macs_share, params_share` of
            every channel group.
        frozen: `axes, size, reason, where, module, source, remedy` of what stays whole.
        prunable_macs, prunable_params: share of the cost that removing every removable unit but
            one would save, in [0, 1].
        macs, params: of the whole model, at the batch of the example inputs.
        capture: which capture was used.
        form: what pruning half of every group would leave: `"module"` (your classes throughout),
            `"grafts"` (some replaced), `"program"`, or `"none"` where nothing can be removed or
            the rewrite fails.
        grafts: `module, class, reason` of the modules that would be replaced.
        problem: why the rewrite would fail; empty if it would not.
    """

    groups: tuple[Mapping[str, Any], ...]
    frozen: tuple[Mapping[str, Any], ...]
    prunable_macs: float
    prunable_params: float
    macs: int
    params: int
    capture: str
    form: str = "none"
    grafts: tuple[Mapping[str, str], ...] = ()
    problem: str = ""
    schema_version: int = SCHEMA_VERSION


def inspect(
    model: nn.Module,
    example_inputs: Any,  # Any: as for `compress`
    *,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    free: Sequence[str] = (),
    rules: Mapping[Any, Couple] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """List what can be removed from a model, and what cannot, with the reasons.

    The model is rewritten at half of every group, on a copy, to tell which modules would have to
    be replaced.

    Args:
        model: left untouched.
        example_inputs, keep, only, free, rules, strict, progress: as for `compress`.

    Raises:
        InputError: an argument does not fit the model.
        CaptureError: the model cannot be captured.
    """
    start = Stages(progress)
    inputs = as_inputs(example_inputs)
    with start("capture"):
        graph = capture(model, inputs)
    with start("groups"):
        groups = find_groups(graph, keep=keep, only=only, free=free, rules=rules, strict=strict)
        costs = Costs(graph, groups, model)
    with start("rewrite"):
        form, grafts, problem = _try_rewrite(model, inputs, graph, groups)
    least = np.array([group.least for group in groups.groups], dtype=np.int64)
    return Inspection(
        groups=_describe_groups(graph, groups, costs),
        frozen=list_frozen(groups),
        prunable_macs=_saved(costs, "flops", least),
        prunable_params=_saved(costs, "params", least),
        macs=round(costs.full("flops")),
        params=count_params(model),
        capture=graph.capture,
        form=form,
        grafts=grafts,
        problem=problem,
    )


def _saved(costs: Costs, kind: str, counts: NDArray[np.int64]) -> float:
    """Give the share of the cost that kept counts save."""
    return 1.0 - float(costs.of(kind)(counts)) / max(costs.full(kind), 1.0)


def _describe_groups(
    graph: Graph, groups: ChannelGroups, costs: Costs
) -> tuple[Mapping[str, Any], ...]:
    kinds = _Kinds(graph, groups)
    found = []
    for index, group in enumerate(groups.groups):
        alone = costs.sizes.copy()
        alone[index] = group.least
        found.append(
            {
                "name": group.name,
                "kind": kinds.of(index, group),
                "size": group.size,
                "parts": len(group.parts),
                "nested": group.nested,
                "macs_share": _saved(costs, "flops", alone),
                "params_share": _saved(costs, "params", alone),
                "axes": [list(axis) for axis in group.axes],
                "structure": group.structure,
            }
        )
    return tuple(found)


class _Kinds:
    """What people call the units of a group."""

    def __init__(self, graph: Graph, groups: ChannelGroups) -> None:
        self.groups = groups
        self.readers: dict[str, list[str]] = {}
        self.attended: set[int] = set()
        self.convolved: set[int] = set()
        for node in graph.ops:
            name = _schema_name(node)
            for source in node.all_input_nodes:
                if source.op == "get_attr":
                    self.readers.setdefault(graph.tensors[source.name], []).append(name)
            if name.startswith(_ATTENTION):
                self.attended |= self._groups_in(node)
            elif "conv" in name and 1 not in _conv_groups(node):
                self.convolved |= self._groups_in(node)

    def _groups_in(self, node: fx.Node) -> set[int]:
        """List the groups whose units stand in what a node is given."""
        arrays = [
            np.unique(self.groups.group_of[label.ids])
            for source in node.all_input_nodes
            for value in self.groups.values[source.name]
            for dim in value
            for label in dim.labels
        ]
        return set(np.concatenate(arrays).tolist()) if arrays else set()

    def of(self, index: int, group: ChannelGroup) -> str:
        """Name the units of a group."""
        blocks = group.nested or group.stride > 1
        if blocks and index in self.attended:
            return "head dims" if group.nested else "heads"
        if blocks and index in self.convolved:
            return "channels of conv groups" if group.nested else "conv groups"
        tensor, dim = group.axes[0]
        readers = self.readers.get(tensor, [])
        if any(r.startswith(_RECURRENT) for r in readers):
            return "recurrent units"
        if any(r.startswith("aten::embedding") for r in readers):
            return "embedding width" if dim else "embeddings"
        if any("conv" in r for r in readers):
            return "channels"
        return "features"


def _schema_name(node: fx.Node) -> str:
    return str(getattr(getattr(node.target, "_schema", None), "name", ""))


def _conv_groups(node: fx.Node) -> tuple[int, ...]:
    """Read how many conv groups a convolution has; 1 unless it says otherwise."""
    schema: Any = node.target  # Any: an operator overload has no public type
    names = [argument.name for argument in schema._schema.arguments]
    position = names.index("groups") if "groups" in names else len(names)
    given = node.args[position] if position < len(node.args) else node.kwargs.get("groups", 1)
    return (given,) if type(given) is int else (1,)


def _try_rewrite(
    model: nn.Module, inputs: Inputs, graph: Graph, groups: ChannelGroups
) -> tuple[str, tuple[Mapping[str, str], ...], str]:
    """Rewrite a copy at half of every group: its form, the grafts, and why it failed if it did."""
    if not groups.groups:
        return "none", (), ""
    ladders = build_ladders(groups, align=1)
    counts = ladders.at(ladders.lengths // 2)
    kept = keep_most_important(groups, np.ones(groups.unit_count), counts)
    choice = Choice(counts, kept, 0.5, {}, ())
    plan = write_plan(graph, groups, choice, inputs, {}, "")
    try:
        with torch.no_grad():
            made = rewrite(model, inputs, graph, groups, plan, kept, record=record)
    except RewriteError as error:
        return "none", (), str(error).replace("\n", ";")
    return made.form, made.grafts, ""
