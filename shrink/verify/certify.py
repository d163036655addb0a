"""Prove that the smaller model computes what the original computes without the channels."""

import contextlib
import copy
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from shrink.core.graph import Graph, ModuleCall, map_nodes, selects_by_value
from shrink.core.groups import ChannelGroups, Dim
from shrink.core.inputs import Inputs, describe, make_inputs, map_tensors, tensors_in
from shrink.core.plan import Plan
from shrink.core.report import Certificate
from shrink.verify.precision import in_float64
from shrink.verify.reference import run_reference

TOLERANCE = 1e-9


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
    its own weights, which are given back bit for bit.

    Args:
        kept: surviving units of `groups`, shape (units + 1,).
        plan: which slices of which tensors those are.
        trials: fresh inputs to compare on.
        tolerance: largest relative difference that passes.
    """
    stored, constants = _stored(model), {**_attributes(model), **graph.constants}
    zero = frozenset(n for n, t in stored.items() if t.is_floating_point() and not t.any())
    perturb = _Perturb(seed, zero, frozenset(stored))
    worst, first = 0.0, ""
    with torch.no_grad(), _as_float64(smaller, plan, perturb):
        for trial in range(trials):
            fresh = map_tensors(make_inputs(describe(inputs), seed=seed + trial), _raise)
            device = next((t.device for t in (*model.parameters(), *model.buffers())), "cpu")
            fresh = map_tensors(fresh, lambda t: t.to(device))  # noqa: B023  # used at once
            read = _reader(stored, constants, plan, perturb)
            if graph.capture == "real":
                with in_float64():
                    error = _compare_blocks(model, smaller, fresh, graph, groups, kept, read)
            else:
                with in_float64():
                    expected = _reference(graph, groups, kept, fresh, read, frozenset())[0]
                    found = _run(smaller, fresh)
                error = _difference(found, expected)
            if not error <= worst:  # NaN counts as a difference
                worst = error
            if not worst <= tolerance:
                first = _first_difference(smaller, fresh, graph, groups, kept, read, tolerance)
                break
    return Certificate(
        passed=bool(worst <= tolerance),
        error=worst,
        tolerance=tolerance,
        dtype="float64",
        device=str(next((t.device for t in model.parameters()), "cpu")),
        trials=trials,
        first_difference=first,
    )


def _run(model: nn.Module, inputs: Inputs) -> Any:  # Any: whatever the model returns
    copied = map_tensors(inputs, torch.clone)  # in-place operators may write into arguments
    try:
        return model(*copied.args, **copied.kwargs)
    except RuntimeError as error:
        return error


def _reference(
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    inputs: Inputs,
    read: Callable[[str], Tensor],
    watch: frozenset[str],
) -> tuple[Any, dict[str, Tensor]]:
    """Run the reference; where a wrong rule makes that impossible, return the error."""
    try:
        return run_reference(graph, groups, kept, tensors_in(inputs), read, watch=watch)
    except RuntimeError as error:
        return error, {}


def _difference(found: Any, expected: Any) -> float:
    """Give the largest difference relative to the largest expected value, over all tensors."""
    got, wanted = tensors_in(found), tensors_in(expected)
    if len(got) != len(wanted) or not wanted:
        return float("inf")
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not b.numel():
            continue
        scale = float(b.abs().max()) or 1.0
        error = float((a.double() - b.double()).abs().max()) / scale
        if not error <= worst:
            worst = error
    return worst


def _raise(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _stored(model: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _attributes(model: nn.Module) -> dict[str, Tensor]:
    """List the tensors that modules hold as plain attributes, by dotted name."""
    return {
        f"{owner}.{name}" if owner else name: value
        for owner, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def _reader(
    stored: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
    plan: Plan,
    perturb: "_Perturb",
) -> Callable[[str], Tensor]:
    def read(name: str) -> Tensor:
        tensor = stored.get(name)
        if tensor is None:  # made by the forward pass itself from literals
            return _raise(constants[name].clone())
        tensor = tensor.detach()
        if not tensor.is_floating_point():
            tensor = tensor.clone()
        else:
            tensor = perturb(name, tensor.to(torch.float64, copy=True), {}, tuple(tensor.shape))
        for dim, indices in plan.keep.get(name, {}).items():
            gone = np.ones(tensor.shape[dim], dtype=np.bool_)
            gone[list(indices)] = False
            removed = torch.from_numpy(np.flatnonzero(gone)).to(tensor.device)
            tensor.index_fill_(dim, removed, 0)
        return tensor

    return read


@dataclass(frozen=True)
class _Perturb:
    """Disturbs tensors of one number per channel, and tensors that are all zero.

    Those are where networks agree by accident: fresh norm statistics, layer scales of 1e-6, heads
    that start at zero. What is positive stays positive, and what is zero becomes nonzero.
    """

    seed: int
    zero: frozenset[str]
    names: frozenset[str]

    def applies(self, name: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a tensor of this name and original shape is disturbed."""
        return name in self.names and (name in self.zero or sum(n > 1 for n in shape) <= 1)

    def __call__(
        self,
        name: str,
        tensor: Tensor,
        dims: Mapping[int, tuple[int, ...]],
        shape: tuple[int, ...],
    ) -> Tensor:
        """Disturb a whole tensor, or alike what is kept of it.

        Args:
            dims: kept indices by dimension, if `tensor` is what is kept.
            shape: of the whole tensor.
        """
        if not self.applies(name, shape):
            return tensor
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.seed)
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        for dim, indices in dims.items():
            noise = noise.index_select(dim, torch.tensor(indices))
        noise = noise.to(tensor.device)
        return tensor * (1 + noise / 2) + noise / 10


@contextlib.contextmanager
def _as_float64(model: nn.Module, plan: Plan, perturb: _Perturb) -> Iterator[None]:
    """Put a model in float64 and evaluation mode, one-per-channel terms perturbed; then undo it.

    Raising to float64 and going back is exact, so only perturbed tensors are set aside: the model
    never stands in memory twice.
    """
    modes = {m: m.training for m in model.modules()}
    aside: list[tuple[Tensor, Tensor]] = []
    raised: list[tuple[Tensor, torch.dtype]] = []
    attributes: list[tuple[nn.Module, str, Tensor]] = []
    try:
        model.eval()
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            data = tensor.data
            shape = plan.shapes.get(name, tuple(tensor.shape))
            if perturb.applies(name, tuple(shape)):
                aside.append((tensor, data))
                new = perturb(name, data.to(torch.float64), plan.keep.get(name, {}), tuple(shape))
            else:
                raised.append((tensor, tensor.dtype))
                new = data.to(torch.float64)
            tensor.data = new
        for module in model.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor) and value.is_floating_point():
                    attributes.append((module, name, value))
                    setattr(module, name, value.to(torch.float64))
        yield
    finally:
        for tensor, data in aside:
            tensor.data = data
        for tensor, dtype in raised:
            tensor.data = tensor.data.to(dtype)
        for module, name, value in attributes:
            setattr(module, name, value)
        for module, mode in modes.items():
            module.training = mode


def _zeroed(model: nn.Module, read: Callable[[str], Tensor]) -> nn.Module:
    """Copy a model with float64 tensors whose removed slices are zero, in evaluation mode."""
    memo: dict[int, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        made = read(name)
        memo[id(tensor)] = nn.Parameter(made) if isinstance(tensor, nn.Parameter) else made
    return copy.deepcopy(model, memo).eval()


def _compare_blocks(
    model: nn.Module,
    smaller: nn.Module,
    inputs: Inputs,
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    read: Callable[[str], Tensor],
) -> float:
    """Compare a model whose control flow depends on data block by block.

    A selection among almost equal scores may go either way in the last bit, so that the outputs
    of the whole model say nothing. Every largest module that selects nothing is given what the
    zeroed original gives it, cut down to what is kept, and must return what the original does.
    """
    zeroed = _zeroed(model, read)
    calls = {(c.path, n): c for n, c in _numbered(graph, _blocks(graph))}
    seen: dict[tuple[str, int], tuple[Any, Any]] = {}
    _observe(zeroed, inputs, frozenset(path for path, _ in calls), seen)
    worst = 0.0 if seen else float("inf")
    for key, (given, returned) in seen.items():
        call = calls.get(key)
        if call is None:  # called more often than when the graph was captured
            continue
        arguments = _cut_all(given, (call.args, call.kwargs), groups, kept)
        wanted = _cut_all([returned], [call.output], groups, kept)
        found = _run(smaller.get_submodule(key[0]), Inputs(*arguments))
        error = _difference(found, wanted)
        worst = error if not error <= worst else worst
    return worst


def _blocks(graph: Graph) -> list[int]:
    """List the largest module calls inside which nothing is selected by value."""
    chosen: set[int] = set()
    for index, call in enumerate(graph.calls):  # a call comes before the calls inside it
        if call.parent in chosen:
            continue
        inside = graph.ops[call.start : call.stop]
        returned: list[fx.Node] = []
        map_nodes(call.output, returned.append)
        if inside and returned and not any(selects_by_value(n) for n in inside):
            chosen.add(index)
    covered = [i for i in chosen if not _ancestors(graph, i) & chosen]
    return sorted(covered)


def _ancestors(graph: Graph, index: int) -> set[int]:
    found: set[int] = set()
    while (index := graph.calls[index].parent) >= 0:
        found.add(index)
    return found


def _numbered(graph: Graph, wanted: list[int]) -> Iterator[tuple[int, ModuleCall]]:
    counts: Counter[str] = Counter()
    for index, call in enumerate(graph.calls):
        if index in wanted:
            yield counts[call.path], call
        counts[call.path] += 1


def _observe(
    model: nn.Module,
    inputs: Inputs,
    paths: frozenset[str],
    seen: dict[tuple[str, int], tuple[Any, Any]],
) -> Any:
    """Run a model and note what modules are given and return, by path and number of the call."""
    counts: Counter[str] = Counter()
    handles = []
    for path in sorted(paths):

        def note(_: nn.Module, args: Any, kwargs: Any, output: Any, path: str = path) -> None:
            seen[path, counts[path]] = map_tensors(((args, kwargs), output), torch.clone)
            counts[path] += 1

        module = model.get_submodule(path)
        handles.append(module.register_forward_hook(note, with_kwargs=True))
    try:
        return _run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _cut_all(values: Any, nodes: Any, groups: ChannelGroups, kept: NDArray[np.bool_]) -> Any:
    """Cut nested tensors down to the indices that survive, given the nodes they stand for."""
    found: list[fx.Node] = []
    map_nodes(nodes, found.append)
    feed = iter(found)
    return map_tensors(values, lambda t: _cut(t, groups.values[next(feed).name][0], kept))


def _cut(tensor: Tensor, dims: tuple[Dim, ...], kept: NDArray[np.bool_]) -> Tensor:
    for d, dim in enumerate(dims):
        if dim.labels and not any(x.rows for x in dim.labels):
            indices = torch.from_numpy(np.flatnonzero(dim.alive(kept)))
            tensor = tensor.index_select(d, indices.to(tensor.device))
    return tensor


def _first_difference(
    smaller: nn.Module,
    inputs: Inputs,
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    read: Callable[[str], Tensor],
    tolerance: float,
) -> str:
    """Name the first module, innermost first, whose output differs from the reference."""
    outputs = {c.path: c.output for c in reversed(graph.calls) if isinstance(c.output, fx.Node)}
    paths = frozenset(p for p in outputs if p)
    with in_float64():
        seen: dict[tuple[str, int], tuple[Any, Any]] = {}
        failure = _observe(smaller, inputs, paths, seen)
        wanted = frozenset(n.name for n in outputs.values())
        watched: dict[str, Tensor] = {}
        if graph.capture != "real":
            _, watched = _reference(graph, groups, kept, inputs, read, wanted)
    for (path, count), (_, output) in seen.items():
        node = outputs[path]
        dims = groups.values[node.name][0]
        if count or node.name not in watched or any(x.rows for d in dims for x in d.labels):
            continue
        if not _difference(output, [_cut(watched[node.name], dims, kept)]) <= tolerance:
            return path
    return f"{type(failure).__name__}: {failure}" if isinstance(failure, Exception) else ""
