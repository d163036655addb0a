"""Prove a coupling rule: cut an operator's arguments as the rule says, and compare with zeroing."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from shrink.capture.capture import capture
from shrink.core.errors import CaptureError, PlanError, VerificationError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, cut_named, tensors_in
from shrink.groups.find import find_groups
from shrink.groups.globs import kept_interface
from shrink.plan.choose import Choice, keep_most_important
from shrink.plan.ladder import build_ladders
from shrink.plan.write import to_plan
from shrink.rewrite.predict import Prediction, literals, predict
from shrink.rules.registry import Couple
from shrink.testing.coupling import as_attribute
from shrink.verify.compare import difference
from shrink.verify.precision import in_float64
from shrink.verify.reference import run_reference

_NAMES = "xyzuvw"
Keep = Mapping[str, Mapping[int, tuple[int, ...]]]
_LOW = (torch.float32, torch.float16, torch.bfloat16)


def check_rule(
    operator: Callable[..., Any],
    *samples: Sequence[Any],
    rules: Mapping[Any, Couple] | None = None,
    fixed: Mapping[str, Sequence[int]] | None = None,
    complete: bool = True,
    trials: int = 20,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> None:
    """Prove the rules of an operator, module or function on sample arguments.

    Many times over, random indices of what the rules leave removable are removed: the operator on
    the cut arguments must give what it gives with those indices zeroed, in float64. A dimension
    that the rules freeze is tried too: if it could go, the rule is needlessly strict. Other
    precisions must be coupled alike.

    Args:
        operator: takes the arguments of a sample.
        samples: each the arguments of one call; several of different batch and sizes are best.
            Floating-point tensors are called x, y, z, u, v, w, and every dimension of theirs may
            go; all else is passed as it is.
        rules: coupling rules by operator, for those that are not registered.
        fixed: dimensions of x, y, ... that stay whole on purpose.
        complete: whether to look for dimensions that are frozen needlessly.
        trials: random choices per sample.
        seed: of the choices.
        tolerance: largest relative difference that passes.

    Raises:
        VerificationError: naming the argument and the indices at which the rule is wrong.
    """
    for number, sample in enumerate(samples):
        case = _Case.of(operator, sample, rules, f"sample {number}")
        case.check_frozen_for_lack_of_a_rule()
        generator = np.random.default_rng(seed)
        for _ in range(trials):
            case.check_a_choice(generator, tolerance)
        if complete:
            case.check_needless(fixed or {}, generator, tolerance)
        case.check_precisions()


class _Called(nn.Module):
    """An operator whose floating-point arguments are parameters, so that they have labels."""

    def __init__(
        self, operator: Callable[..., Any], sample: Sequence[Any], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.operator = as_attribute(operator)
        self.order: list[Any] = []  # Any: the name of a tensor, or a value in a tuple
        names = iter(_NAMES)
        for value in sample:
            if isinstance(value, Tensor):
                name = next(names)
                self.order.append(name)
                if value.is_floating_point():
                    setattr(self, name, nn.Parameter(value.detach().to(dtype)))
            else:
                self.order.append((value,))

    def forward(self, **given: Tensor) -> Any:
        arguments = [
            v[0] if isinstance(v, tuple) else given[v] if v in given else getattr(self, v)
            for v in self.order
        ]
        return self.operator(*arguments)


@dataclass(frozen=True, eq=False)
class _Case:
    """One operator on one sample."""

    module: _Called
    sample: Sequence[Any]
    rules: Mapping[Any, Couple] | None
    inputs: Inputs
    graph: Graph
    groups: ChannelGroups
    where: str

    @classmethod
    def of(
        cls,
        operator: Callable[..., Any],
        sample: Sequence[Any],
        rules: Mapping[Any, Couple] | None,
        where: str,
        dtype: torch.dtype = torch.float64,
    ) -> "_Case":
        if isinstance(operator, nn.Module):
            operator = copy.deepcopy(operator).double().eval()
        module = _Called(operator, sample, dtype).eval()
        tensors = [v for v in sample if isinstance(v, Tensor)]
        whole = {n: v for n, v in zip(_NAMES, tensors, strict=False) if not v.is_floating_point()}
        inputs = Inputs((), whole)
        graph = capture(module, inputs)
        groups = find_groups(graph, free=["output*"], rules=rules)
        return cls(module, sample, rules, inputs, graph, groups, where)

    def check_frozen_for_lack_of_a_rule(self) -> None:
        """Refuse an operator without a rule, and a rule that fails."""
        for entry in self.groups.frozen:
            if entry.reason.startswith(("no rule for ", "the rule for ")):
                raise VerificationError(
                    entry.reason,
                    where=self.where,
                    fix="register one with @shrink.couples, or pass rules={operator: rule}",
                )

    def check_a_choice(self, generator: np.random.Generator, tolerance: float) -> None:
        """Remove indices at random, and compare with zeroing them."""
        if not self.groups.groups:
            return
        ladders = build_ladders(self.groups, align=1)
        counts = ladders.at(generator.integers(ladders.lengths))
        kept = keep_most_important(self.groups, generator.random(self.groups.unit_count), counts)
        shapes = {name: tuple(t.shape) for name, t in self.graph.stored.items()}
        choice = Choice(counts, kept, 1.0, {}, ())
        try:
            plan = to_plan(self.groups, choice, shapes, inputs={}, request={})
        except PlanError:  # nothing would be left of an argument
            return
        what = _describe_cut(plan.keep)
        with torch.no_grad(), in_float64():
            expected = cut_named(
                self._run_zeroed(kept, plan.keep),
                "output",
                kept_interface(self.graph, self.groups, kept),
            )
            try:
                found = self._run_cut(predict(self.graph, self.groups, kept), plan.keep)
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                raise VerificationError(
                    f"with {what} the operator fails on what is left: {error}",
                    where=self.where,
                    fix="tie what must go together; rewrite sizes among its arguments with "
                    "@shrink.resizes",
                ) from error
        worst = difference(*_without_shared_nans(tensors_in(found), tensors_in(expected)))
        if worst is not None and not worst <= tolerance:
            raise VerificationError(
                f"with {what} the result is {_shapes(found)} and differs by {worst:.3g} from the "
                f"{_shapes(expected)} with those indices zeroed",
                where=self.where,
                fix="tie what must go together, freeze what cannot go, or name what is normalised "
                "over with @shrink.normalises",
            )

    def _stored(self) -> dict[str, Tensor]:
        return {
            **dict(self.module.named_parameters(remove_duplicate=False)),
            **dict(self.module.named_buffers(remove_duplicate=False)),
            **self.graph.constants,
        }

    def _run_zeroed(self, kept: NDArray[np.bool_], keep: Keep) -> Any:
        stored = self._stored()

        def zeroed(name: str) -> Tensor:
            tensor = stored[name].detach().clone()
            for dim, indices in keep.get(name, {}).items():
                gone = [i for i in range(tensor.shape[dim]) if i not in set(indices)]
                tensor.index_fill_(dim, torch.tensor(gone), 0)
            return tensor

        inputs = tensors_in(self.inputs)
        return run_reference(self.graph, self.groups, kept, inputs, zeroed)[0]

    def _run_cut(self, prediction: Prediction, keep: Keep) -> Any:
        """Run the graph on cut arguments, literals as the rules rewrite them."""
        stored, feed = self._stored(), iter(tensors_in(self.inputs))
        values: dict[str, Any] = {}
        for node in self.graph.fx.nodes:
            if node.op == "placeholder":
                values[node.name] = next(feed)
            elif node.op == "get_attr":
                name = self.graph.tensors[node.name]
                values[node.name] = _cut(stored[name].detach(), keep.get(name, {})).clone()
            elif node.op == "call_function":
                args, kwargs = fx.map_arg(literals(node, prediction), lambda n: values[n.name])
                args, kwargs = _on_cpu((args, kwargs))
                values[node.name] = node.target(*args, **kwargs)
                call = prediction.calls.get(node.name)
                if call is not None and call.factor != 1.0:
                    values[node.name] = values[node.name] * call.factor
        return fx.map_arg(self.graph.fx.output_node().args[0], lambda n: values[n.name])

    def check_needless(
        self, fixed: Mapping[str, Sequence[int]], generator: np.random.Generator, tolerance: float
    ) -> None:
        """Try to remove what the rules freeze: one dimension, or two of equal size together."""
        free = {(axis.tensor, axis.dim) for axis in self.groups.axes}
        frozen = [
            (name, dim)
            for name, tensor in self.module.named_parameters()
            if name in _NAMES
            for dim, size in enumerate(tensor.shape)
            if size > 1 and (name, dim) not in free and dim not in fixed.get(name, ())
        ]
        sizes = {name: tensor.shape for name, tensor in self.module.named_parameters()}
        together = [
            (a, b)
            for a, b in combinations(frozen, 2)
            if a[0] != b[0] and sizes[a[0]][a[1]] == sizes[b[0]][b[1]]
        ]
        for axes in (*((a,) for a in frozen), *together):
            if all(self._can_go(axes, generator, tolerance) for _ in range(3)):
                names = " and ".join(f"{name}:{dim}" for name, dim in axes)
                raise VerificationError(
                    f"the rule freezes {names}, whose indices could be removed",
                    where=self.where,
                    fix=f"let the rule label it, or pass fixed={{{axes[0][0]!r}: [{axes[0][1]}]}}",
                )

    def _can_go(
        self, axes: Sequence[tuple[str, int]], generator: np.random.Generator, tolerance: float
    ) -> bool:
        tensors = {n: t.detach() for n, t in self.module.named_parameters() if n in _NAMES}
        size = tensors[axes[0][0]].shape[axes[0][1]]
        left = np.sort(generator.permutation(size)[: max(1, size // 2)])
        gone = np.setdiff1d(np.arange(size), left)
        zeroed, cut = dict(tensors), dict(tensors)
        for name, dim in axes:
            zeroed[name] = zeroed[name].index_fill(dim, torch.tensor(gone), 0)
            cut[name] = cut[name].index_select(dim, torch.tensor(left))
        try:
            with torch.no_grad():
                wanted, found = self._call(zeroed), self._call(cut)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        return any(
            (worst := difference(found, candidate)) is not None and worst <= tolerance
            for candidate in _reductions(wanted, torch.tensor(left), size)
        )

    def _call(self, tensors: Mapping[str, Tensor]) -> Any:
        copies = {n: t.clone() for n, t in tensors.items()}
        return self.module(**self.inputs.kwargs, **copies)

    def check_precisions(self) -> None:
        """Refuse a rule that couples another precision differently."""
        if isinstance(self.module.operator, nn.Module):
            return  # whose own parameters have a precision of their own
        for dtype in _LOW:
            try:
                other = _Case.of(self.module.operator, self.sample, self.rules, "", dtype)
            except CaptureError:  # the operator has no kernel for it
                continue
            if _summary(other.groups) != _summary(self.groups):
                raise VerificationError(
                    f"the rule couples {dtype} unlike torch.float64: {_summary(other.groups)} "
                    f"instead of {_summary(self.groups)}",
                    where=self.where,
                    fix="let the rule look at shapes only",
                )


def _on_cpu(value: Any) -> Any:
    """Put the CPU in place of the device that the graph was captured on."""
    if isinstance(value, tuple):
        return tuple(_on_cpu(v) for v in value)
    if isinstance(value, Mapping):
        return {k: _on_cpu(v) for k, v in value.items()}
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _summary(groups: ChannelGroups) -> str:
    return ", ".join(f"{g.name} ({len(g.parts)} x {g.size})" for g in groups.groups)


def _without_shared_nans(
    found: list[Tensor], expected: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Replace what is no number on either side: the variance of one element."""
    if [a.shape for a in found] != [b.shape for b in expected]:
        return found, expected
    shared = [a.isnan() & b.isnan() for a, b in zip(found, expected, strict=True)]
    filled = (
        [t.masked_fill(nan, 0) for t, nan in zip(side, shared, strict=True)]
        for side in (found, expected)
    )
    return next(filled), next(filled)


def _cut(tensor: Tensor, dims: Mapping[int, tuple[int, ...]]) -> Tensor:
    for dim, indices in dims.items():
        tensor = tensor.index_select(dim, torch.tensor(indices))
    return tensor


def _describe_cut(keep: Keep) -> str:
    cuts = [f"{name}:{dim} cut to {list(v)}" for name, d in keep.items() for dim, v in d.items()]
    return ", ".join(cuts) or "nothing removed"


def _shapes(value: Any) -> str:
    return " and ".join(str(tuple(t.shape)) for t in tensors_in(value)) or type(value).__name__


def _reductions(result: Any, left: Tensor, size: int) -> Iterator[Any]:
    """List what may be left of a result: all of it, or the same indices of one dimension."""
    yield result
    tensors = tensors_in(result)
    for dim in range(max((t.dim() for t in tensors), default=0)):
        if all(dim < t.dim() and t.shape[dim] == size for t in tensors):
            yield [t.index_select(dim, left) for t in tensors]
