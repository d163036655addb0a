"""Make the smaller model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import nn

from shrink.core.errors import CaptureError, RewriteError
from shrink.core.graph import Graph, selects_by_value, shapes_of
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, cut_named, enlarge_batch
from shrink.core.plan import Plan
from shrink.rewrite.graft import graft
from shrink.rewrite.predict import Kept, Prediction, literals, predict
from shrink.rewrite.repair import (
    Record,
    Repairs,
    agrees,
    find_misfit,
    find_suspects,
    make_arguments,
    repair,
    touched_calls,
)
from shrink.rewrite.sizes import find_resizer, leave_fast_path
from shrink.rewrite.slice import slice_copy
from shrink.rewrite.variants import Variant, find_variants
from shrink.rewrite.write import Captures
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
    smaller_inputs: Inputs = cut_named(inputs, "input", plan.interface)
    mending = _Mending(model, smaller, inputs, smaller_inputs, graph, prediction, record)
    for index in _inner_first(graph, find_suspects(smaller, graph, prediction)):
        mending.mend(index)
    mending.mend_rest()
    _check_training(model, inputs, mending.smaller, smaller_inputs, record)
    return mending.result()


_UNKNOWN = object()


@dataclass(eq=False)
class _Mending:
    """The smaller model while its modules are made to fit, one after the other."""

    model: nn.Module
    smaller: nn.Module
    inputs: Inputs
    smaller_inputs: Inputs
    graph: Graph
    prediction: Prediction
    record: Record
    learned: Repairs = field(default_factory=Repairs)
    repairs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    grafts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    inlined: set[int] = field(default_factory=set)
    misfit: Any = _UNKNOWN  # what `_find_misfit` found last, until something is mended

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The model at other input sizes; captured when first asked for."""
        return find_variants(self.model, self.inputs, self.graph, self.record)

    def result(self) -> Rewrite:
        """Say what was made."""
        form = "program" if "" in self.grafts else "grafts" if self.grafts else "module"
        return Rewrite(self.smaller, form, tuple(self.grafts.values()), self.repairs)

    def is_replaced(self, path: str) -> bool:
        """Tell whether a module was grafted, or written out in a graft around it."""
        return path in self.grafts or any(self.graph.calls[i].path == path for i in self.inlined)

    def mend(self, index: int) -> None:
        """Repair the module of a call, or replace it."""
        call = self.graph.calls[index]
        if self.is_replaced(call.path):
            return
        alone = self._runs_alone(index)
        if not alone and self._fits_as_it_is(index):
            return
        module = self.smaller.get_submodule(call.path)
        fits = partial(self._fits if alone else self._fits_inside, index)
        changed = repair(module, self.graph, index, self.prediction, fits, self.learned)
        if changed:
            self.repairs[call.path] = changed
            self.misfit = _UNKNOWN
        selects = any(selects_by_value(n) for n in self.graph.ops[call.start : call.stop])
        # Where it selects, its sizes may depend on data; the certificate tells whether it fits.
        if changed is None and not selects and alone:
            self.replace(index)

    def _fits(self, index: int) -> bool:
        """Tell whether the module of a call does what is predicted."""
        path = self.graph.calls[index].path
        module = self.smaller.get_submodule(path)
        return agrees(module, self.graph, index, self.prediction, self.record, self.grafts)

    def _fits_as_it_is(self, index: int) -> bool:
        """Tell the same as `_fits_inside`, without a run if nothing has changed since the last."""
        return self._is_before(index, self._current_misfit())

    def _current_misfit(self) -> int | None:
        if self.misfit is _UNKNOWN:
            self.misfit = self._find_misfit()
        found: int | None = self.misfit
        return found

    def _fits_inside(self, index: int) -> bool:
        """Tell the same of a module that only runs with the model around it."""
        return self._is_before(index, self._find_misfit())

    def _is_before(self, index: int, misfit: int | None) -> bool:
        return misfit is None or self.graph.calls[misfit].start >= self.graph.calls[index].stop

    def _runs_alone(self, index: int) -> bool:
        """Tell whether the original's module can be captured without the model around it."""
        original = self.model.get_submodule(self.graph.calls[index].path)
        calls = [(self.graph, index)]
        return bool(_alone(original, self.graph.capture, self.record, calls, training=False))

    def mend_rest(self) -> None:
        """Run the whole, and mend what fails or differs: a check of a width in plain Python."""
        for _ in self.graph.calls:
            index = self._current_misfit()
            if index is None:
                return
            before = set(self.grafts), dict(self.repairs)
            if self.is_replaced(self.graph.calls[index].path):
                index = self._outside(index)
                if index < 0:
                    return
            self.mend(index)
            if (set(self.grafts), self.repairs) == before:
                for alike in (index, *self._alike(index)):
                    self.replace(alike)

    def _alike(self, index: int) -> Iterator[int]:
        """List the later calls of other modules of the same class that see a width change."""
        calls = self.graph.calls
        kind = type(self.model.get_submodule(calls[index].path))
        for other in sorted(touched_calls(self.graph, self.prediction)):
            path = calls[other].path
            alike = other > index and type(self.model.get_submodule(path)) is kind
            if alike and not self.is_replaced(path):
                yield other

    def _find_misfit(self) -> int | None:
        """Run the whole; name the first call that fails or differs from the prediction."""
        worlds = (self.graph.capture,)
        try:
            found = self.record(self.smaller, self.smaller_inputs, worlds=worlds)
        except CaptureError as error:
            calls = [i for i, c in enumerate(self.graph.calls) if c.path == error.where]
            return calls[0] if calls else 0
        if self.graph.capture == "real":  # what it calls may depend on data
            return None
        return find_misfit(found, self.graph, 0, self.prediction, self.grafts)

    def _outside(self, index: int) -> int:
        """Find the innermost call around one that stands in no graft."""
        while index >= 0 and self.is_replaced(self.graph.calls[index].path):
            index = self.graph.calls[index].parent
        return index

    def replace(self, index: int) -> None:
        """Replace a module, or the smallest one around it for which that is possible."""
        reason = ""
        while index >= 0:
            path = self.graph.calls[index].path
            original = self.model.get_submodule(path)
            captures = Captures(self.graph, index, self.prediction, inline=frozenset(self.inlined))
            training = partial(_alone, original, self.graph.capture, self.record)
            try:
                new, note = graft(
                    self.smaller.get_submodule(path), original, captures, self.variants, training
                )
            except RewriteError as error:
                reason = str(error)
                self.inlined.add(index)
                index = self.graph.calls[index].parent
                continue
            self.smaller = _replace(self.smaller, path, new)
            self.misfit = _UNKNOWN
            for outer in (new, *_outer(self.smaller, path)):
                leave_fast_path(outer)
            why = "its forward computes sizes that no stored attribute decides"
            for inner in [g for g in self.grafts if not path or g.startswith(f"{path}.")]:
                if all(self.graph.calls[i].path != inner for i in self._called_in(index)):
                    del self.grafts[inner]
            kind = type(original).__qualname__
            self.grafts[path] = {"module": path, "class": kind, "reason": why + note}
            return
        raise RewriteError(f"no module can be replaced: {reason}", where=type(self.model).__name__)

    def _called_in(self, index: int) -> list[int]:
        """List the calls that a replaced module still makes as calls of modules."""
        inner = [i for i, c in enumerate(self.graph.calls) if c.parent == index]
        return [j for i in inner for j in (i, *self._called_in(i)) if i not in self.inlined]


def _outer(root: nn.Module, path: str) -> Iterator[nn.Module]:
    """List the modules that a module stands in."""
    while path:
        path = path.rpartition(".")[0]
        yield root.get_submodule(path)


def _alone(
    original: nn.Module,
    world: str,
    record: Record,
    calls: Sequence[tuple[Graph, int]],
    *,
    training: bool = True,
) -> list[Graph]:
    """Capture a module alone, at the sizes of each of its calls; nothing if it fails."""
    made = []
    for graph, index in calls:
        call = graph.calls[index]
        shapes = {n.name: shapes_of(n.meta["val"]) for n in graph.fx.nodes if "val" in n.meta}
        arguments = make_arguments(call, shapes, device="cpu" if world == "real" else "meta")
        try:
            made.append(
                record(original, arguments, path=call.path, training=training, worlds=(world,))
            )
        except CaptureError:
            return []
    return made


def _check_training(
    model: nn.Module,
    inputs: Inputs,
    smaller: nn.Module,
    smaller_inputs: Inputs,
    record: Record,
) -> None:
    """Make sure that branches which only training runs still fit."""
    try:  # on two examples: batch norm refuses to train on one
        record(smaller, enlarge_batch(smaller_inputs), training=True)
    except CaptureError as error:
        try:
            record(model, enlarge_batch(inputs), training=True)
        except CaptureError:  # it cannot be trained on such inputs at all
            return
        try:
            record(smaller, smaller_inputs)
        except CaptureError:  # not of the training alone: the certificate says what it is
            return
        raise RewriteError(
            f"its training-only branches no longer fit: {error.what}",
            where=error.where,
            fix=f"keep=[{error.where!r}]",
        ) from error


def _inner_first(graph: Graph, indices: Sequence[int]) -> list[int]:
    depth = {i: len(graph.calls[i].path.split(".")) if graph.calls[i].path else 0 for i in indices}
    return sorted(indices, key=lambda i: (-depth[i], i))


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


def _replace(root: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    old = root.get_submodule(path)
    for parent in root.modules():  # a shared module stands in several places
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
    return root
