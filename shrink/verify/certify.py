"""Prove that the smaller model computes what the original computes without the channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, cut_named, describe, make_inputs, map_tensors, tensors_in
from shrink.core.plan import Plan
from shrink.core.remember import unchanged
from shrink.core.report import Certificate
from shrink.verify.blocks import Blocks
from shrink.verify.compare import (
    Seen,
    cut_all,
    difference,
    is_ragged,
    nodes_in,
    observe,
    run,
)
from shrink.verify.decisions import Decisions
from shrink.verify.precision import Loan, in_float64
from shrink.verify.reference import ReferenceFailure, run_reference
from shrink.verify.weights import (
    Perturb,
    Read,
    as_float64,
    attributes,
    raised,
    reader,
    stored_tensors,
    zeroed,
)

TOLERANCE = 1e-9
_UNTOLD = "no output has anything to compare: all are empty or zero"


def certify(  # noqa: PLR0913  the whole pipeline, to be proven
    model: nn.Module,
    smaller: nn.Module,
    inputs: Inputs,
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    plan: Plan,
    *,
    seed: int = 0,
    trials: int = 2,
    tolerance: float = TOLERANCE,
) -> Certificate:
    """Compare the smaller model with the original's graph, every removed slice neutralised.

    Both run in float64 on fresh random inputs, with norm statistics and affine terms perturbed
    alike, so that nothing agrees by being zero. The smaller model runs as it is: its own code and
    its own weights, which are given back bit for bit. Of the weights, only those of the layer at
    work stand in float64: the memory on top of the two models is that of one layer and of the
    activations.

    Args:
        kept: surviving units of `groups`, shape (units + 1,).
        plan: which slices of which tensors those are.
        trials: fresh inputs to compare on, at least 1.
        tolerance: largest relative difference that passes.
    """
    stored = stored_tensors(model)
    perturb = Perturb.of(stored, seed)
    read = reader(stored, {**attributes(model), **graph.constants}, plan, perturb)
    device = next((t.device for t in stored.values()), torch.device("cpu"))
    pair = _Pair(model, smaller, graph, groups, kept, plan, read, perturb, tolerance)
    worst, first = 0.0 if trials > 0 else float("inf"), ""
    with torch.no_grad(), unchanged(smaller), as_float64(smaller, plan, perturb) as loans:
        for trial in range(trials):
            fresh = map_tensors(make_inputs(describe(inputs), seed=seed + trial), raised)
            if graph.capture == "real":  # its steps may follow lengths, positions, flags
                fresh = _with_integers_of(inputs, fresh)
            fresh = map_tensors(fresh, lambda t: t.to(device))
            error, first = pair.compare(fresh, loans)
            if not error <= worst:  # NaN counts as a difference
                worst = error
            if not worst <= tolerance:
                break
    return Certificate(
        passed=bool(worst <= tolerance),
        error=worst,
        tolerance=tolerance,
        dtype="float64",
        device=str(device),
        trials=trials,
        first_difference=first,
    )


def _with_integers_of(given: Inputs, fresh: Inputs) -> Inputs:
    feed = iter(tensors_in(given))

    def choose(tensor: Tensor) -> Tensor:
        own = next(feed)
        return tensor if tensor.is_floating_point() or tensor.is_complex() else own.clone()

    chosen: Inputs = map_tensors(fresh, choose)
    return chosen


@dataclass(frozen=True, eq=False)
class _Pair:
    """The original and the smaller model, to be compared on inputs."""

    model: nn.Module
    smaller: nn.Module
    graph: Graph
    groups: ChannelGroups
    kept: NDArray[np.bool_]
    plan: Plan
    read: Read
    perturb: Perturb
    tolerance: float

    def compare(self, inputs: Inputs, loans: Mapping[int, Loan]) -> tuple[float, str]:
        """Give the largest relative difference, and where it is, if it is too large."""
        if self.graph.capture == "real":
            blocks = Blocks.of(self.graph, self.groups, self.kept)
            with (
                zeroed(self.model, self.read, self.perturb) as (original, more),
                in_float64({**loans, **more}),
            ):
                error = self._compare_whole(original, inputs)
                if error is not None and error <= self.tolerance:
                    return error, ""
                found = blocks.compare(original, self.smaller, inputs, self.plan, self.tolerance)
                if error is None or found[1]:
                    return found
                return error, type(self.smaller).__name__
        with in_float64(loans):
            try:
                expected, _ = self._reference(inputs, frozenset())
            except ReferenceFailure as failure:
                return float("inf"), str(failure)
            expected = cut_named(expected, "output", self.plan.interface)
            error = difference(run(self.smaller, self._cut(inputs)), expected)
            if error is None:
                return float("inf"), _UNTOLD
            return error, "" if error <= self.tolerance else self._first_difference(inputs)

    def _compare_whole(self, original: nn.Module, inputs: Inputs) -> float | None:
        """Compare outputs; None where the two decided differently, and outputs say nothing."""
        with Decisions() as wanted:
            expected = run(original, inputs)
        with Decisions() as decided:
            found = run(self.smaller, self._cut(inputs))
        if isinstance(expected, Exception) or not decided.agree(wanted):
            return None
        return difference(found, cut_named(expected, "output", self.plan.interface))

    def _cut(self, inputs: Inputs) -> Inputs:
        cut: Inputs = cut_named(inputs, "input", self.plan.interface)
        return cut

    def _reference(self, inputs: Inputs, watch: frozenset[str]) -> tuple[Any, dict[str, Tensor]]:
        given = tensors_in(inputs)
        return run_reference(self.graph, self.groups, self.kept, given, self.read, watch=watch)

    def _first_difference(self, inputs: Inputs) -> str:
        """Name the first module, innermost first, whose output differs from the reference."""
        there = dict(self.smaller.named_modules(remove_duplicate=False))
        outputs = {c.path: c.output for c in reversed(self.graph.calls) if c.path in there}
        nodes = {path: nodes_in(output) for path, output in outputs.items()}
        seen: Seen = {}
        observe(self.smaller, self._cut(inputs), frozenset(p for p in outputs if p), seen)
        _, watched = self._reference(inputs, frozenset(n.name for v in nodes.values() for n in v))
        for (path, count), (_, output) in seen.items():
            if isinstance(output, Exception):
                return f"{path} ({type(output).__name__}: {output})"
            if count or is_ragged(outputs[path], self.groups):
                continue
            wanted = [watched[n.name] for n in nodes[path]]
            error = difference(output, cut_all(wanted, nodes[path], self.groups, self.kept))
            if error is not None and not error <= self.tolerance:
                return path
        return type(self.smaller).__name__
