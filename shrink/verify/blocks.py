"""Compare a model whose control flow depends on data, block by block.

A selection among almost equal scores may go either way in the last bit, so that the outputs of the
whole model say nothing. Every largest module that selects nothing is given what the zeroed original
gives it, cut down to what is kept, and must return what the original does.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from shrink.core.graph import Graph, ModuleCall, selects_by_value
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, tensors_in
from shrink.core.plan import Plan
from shrink.verify.compare import Seen, cut_all, difference, nodes_in, observe, run

Numbered = Mapping[tuple[str, int], ModuleCall]
"""Calls by path, and how often that path was called before."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """The calls of a captured model, cut at what is selected by value.

    Args:
        calls: every call.
        whole: the largest calls inside which nothing is selected by value.
    """

    graph: Graph
    groups: ChannelGroups
    kept: NDArray[np.bool_]
    calls: Numbered
    whole: Numbered

    @classmethod
    def of(cls, graph: Graph, groups: ChannelGroups, kept: NDArray[np.bool_]) -> "Blocks":
        """Find the blocks of a graph."""
        counts: Counter[str] = Counter()
        calls: dict[tuple[str, int], ModuleCall] = {}
        whole: dict[tuple[str, int], ModuleCall] = {}
        inside: set[int] = set()
        for index, call in enumerate(graph.calls):  # a call comes before the calls inside it
            key = call.path, counts[call.path]
            counts[call.path] += 1
            calls[key] = call
            if call.parent in inside:
                inside.add(index)
            elif _selects_nothing(graph, call):
                inside.add(index)
                whole[key] = call
        return cls(graph, groups, kept, calls, whole)

    def compare(
        self, original: nn.Module, smaller: nn.Module, inputs: Inputs, plan: Plan, tolerance: float
    ) -> tuple[float, str]:
        """Compare all blocks.

        Args:
            original: with removed slices zeroed.

        Returns:
            the largest relative difference, infinite where a tensor that was cut is read by no
            block that could be compared; and where, if it is above the tolerance.
        """
        seen: Seen = {}
        failure = observe(original, inputs, frozenset(path for path, _ in self.whole), seen)
        if isinstance(failure, Exception):
            return float("inf"), f"the original: {type(failure).__name__}: {failure}"
        worst, compared = 0.0, set()
        for key, (given, returned) in seen.items():
            call = self.whole.get(key)
            if call is None or not _fits((given, [returned]), call):
                continue  # called more often, or with other arguments, than when it was captured
            arguments = self._cut(given, (call.args, call.kwargs))
            wanted = self._cut([returned], [call.output])
            found = run(smaller.get_submodule(call.path), Inputs(*arguments))
            error = difference(found, wanted)
            if error is None:
                continue
            compared.add(call.path)
            if not error <= tolerance:
                inner = self._first_inside(original, smaller, call, given, arguments, tolerance)
                return error, inner or call.path
            worst = max(worst, error)
        unread = self._unproven(plan, compared)
        if unread or not compared:
            return float("inf"), f"{unread or 'no module'} could not be compared"
        return worst, ""

    def _cut(self, values: Any, nodes: Any) -> Any:
        return cut_all(values, nodes, self.groups, self.kept)

    def _first_inside(
        self,
        original: nn.Module,
        smaller: nn.Module,
        block: ModuleCall,
        given: Any,
        arguments: Any,
        tolerance: float,
    ) -> str:
        """Name the first module inside a block, innermost first, whose output differs."""
        calls: dict[tuple[str, int], ModuleCall] = {}
        counts: Counter[str] = Counter()
        for call in self.graph.calls:
            if call is not block and block.start <= call.start and call.stop <= block.stop:
                calls[call.path, counts[call.path]] = call
                counts[call.path] += 1
        prefix = f"{block.path}." if block.path else ""
        twins = (original.get_submodule(block.path), smaller.get_submodule(block.path))
        both = [dict(m.named_modules(remove_duplicate=False)) for m in twins]
        paths = {p.removeprefix(prefix) for p, _ in calls if p.startswith(prefix)}
        inner = frozenset(p for p in paths if p and all(p in names for names in both))
        expected: Seen = {}
        found: Seen = {}
        observe(twins[0], Inputs(*given), inner, expected)
        observe(twins[1], Inputs(*arguments), inner, found)
        for key, (_, output) in found.items():
            known = calls.get((prefix + key[0], key[1]))
            if known is None or key not in expected or not _fits([expected[key][1]], known.output):
                continue
            error = difference(output, self._cut([expected[key][1]], [known.output]))
            if error is not None and not error <= tolerance:
                return prefix + key[0]
        return ""

    def _unproven(self, plan: Plan, compared: set[str]) -> str:
        """Name a tensor that was cut and that no compared block reads."""
        cut = {n: name for n, name in self.graph.tensors.items() if name in plan.keep}
        proven: set[str] = set()
        for node in self.graph.ops:
            read = [cut[s.name] for s in node.all_input_nodes if s.name in cut]
            if read and self._is_inside(node.meta["call"], compared):
                proven.update(read)
        return next((name for name in cut.values() if name not in proven), "")

    def _is_inside(self, index: int, paths: set[str]) -> bool:
        while index >= 0:
            if self.graph.calls[index].path in paths:
                return True
            index = self.graph.calls[index].parent
        return False


def _selects_nothing(graph: Graph, call: ModuleCall) -> bool:
    inside = graph.ops[call.start : call.stop]
    return bool(inside and nodes_in(call.output)) and not any(map(selects_by_value, inside))


def _fits(values: Any, call: Any) -> bool:
    """Tell whether values hold as many tensors as when they were captured."""
    nodes = (call.args, call.kwargs, call.output) if isinstance(call, ModuleCall) else call
    return len(tensors_in(values)) == len(nodes_in(nodes))
