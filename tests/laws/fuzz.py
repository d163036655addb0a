"""Compress the random network of a seed, and say what came of it."""

import copy
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from torch import Tensor, nn

import shrink
from shrink.capture.capture import capture
from shrink.core.errors import PlanError, RewriteError, ShrinkError, VerificationError
from shrink.core.inputs import Inputs, tensors_in
from shrink.groups.cost import cost_of_macs, cost_of_params
from shrink.groups.find import find_groups
from shrink.plan.budget import SLACK
from shrink.plan.ladder import build_ladders
from shrink.rules.cost import find_macs
from tests.laws.masked import Lost, second_opinion
from tests.laws.recipes import Recipe, from_seed, parts_of

TOLERANCE = 1e-7  # of the second opinion, which subtracts squares for its variances
ROUND_TRIP = 25  # every such seed is saved and loaded
LIMIT = 120  # seconds for one network
BAD = ("silent", "caught", "crash", "unsound")
_COMBINATIONS = 1000


@dataclass(frozen=True)
class Outcome:
    """What came of one network.

    Args:
        kind: `ok`, `unreachable`, `nothing`, `refused`, or of `BAD`. `unreachable` networks were
            compressed to the closest value that the refusal names; `nothing` has reasons for all
            that stays.
        reason: of everything but `ok`: first line of the error.
        opinion: largest relative difference by the second opinion, None if there was none.
        form: of the smaller model.
    """

    seed: int
    kind: str
    reason: str = ""
    opinion: float | None = None
    lost: str = ""
    form: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    kind: str
    ratio: float
    options: dict[str, Any] = field(default_factory=dict)
    is_from_a_fix: bool = False

    def follow(self, option: str, value: str) -> "Request":
        """Change what the fix of a refusal says."""
        if option == "align":
            return replace(self, options={**self.options, "align": value.strip("'")})
        return replace(self, ratio=float(value), is_from_a_fix=True)

    def attempt(self, model: nn.Module, inputs: Inputs) -> shrink.Result | PlanError:
        budget: dict[str, Any] = {self.kind: self.ratio}
        try:
            return shrink.compress(model, inputs, measure=False, **budget, **self.options)
        except PlanError as error:
            return error


def request_of(seed: int) -> Request:
    random = Random(f"request {seed}")  # noqa: S311  # nothing is secret
    options = {
        "criterion": random.choice(["l2", "l1", "random"]),
        "ranking": random.choice(["local", "global", "isomorphic"]),
        "align": random.choice(["auto", "auto", 1, 1, 4]),
        "keep": random.choice([[], [], [], [], [], ["stem*"]]),
        "seed": seed,
    }
    return Request(
        random.choice(["flops", "flops", "params"]), random.randrange(30, 81) / 100, options
    )


class Unsound(Exception):  # noqa: N818  # a finding
    """The certificate passed, and the second opinion differs."""


class Broken(Exception):  # noqa: N818  # a finding
    """Something other than a number is wrong with the smaller model."""


def examine(seed: int, recipe: Recipe | None = None) -> Outcome:
    """Compress a network and check all that is promised of it."""
    began = time.process_time()
    notes: dict[str, Any] = {}
    try:
        with _limited():
            kind, reason = _examine(recipe or from_seed(seed), request_of(seed), seed, notes)
    except Unsound as finding:
        kind, reason = "unsound", str(finding)
    except (VerificationError, RewriteError) as error:
        kind, reason = "caught", _first_line(error)
    except ShrinkError as error:
        kind, reason = "refused", _first_line(error)
    except Exception as error:  # noqa: BLE001  # the failure is the result
        kind, reason = "crash", _first_line(error)
    return Outcome(seed, kind, reason, seconds=round(time.process_time() - began, 3), **notes)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


@contextmanager
def _limited() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"takes longer than {LIMIT} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _examine(recipe: Recipe, request: Request, seed: int, notes: dict[str, Any]) -> tuple[str, str]:
    model, inputs = recipe.build(), recipe.inputs()
    before = _fingerprint(model)
    kind, reason = "ok", ""
    while isinstance(result := request.attempt(model, inputs), PlanError):
        if result.closest is None:
            _check_untouched(model, before)
            stays = result.what.removeprefix("nothing to prune: ")
            return ("nothing" if "(" in stays else "silent"), stays[:300]
        if request.is_from_a_fix:
            raise Broken(f"the fix of a refusal is refused: {result.what}")
        found = _find_reachable(model, inputs, request)
        if found is not None:
            raise Broken(f"{result.where} is refused, but {found:.4g} is reachable")
        kind, reason = "unreachable", result.what[:200]
        option, _, value = result.fix.partition("=")
        if option not in (request.kind, "align"):
            return kind, reason
        request = request.follow(option, value)
    notes["form"] = str(result.report.model["form"])
    _check_untouched(model, before)
    certificate = result.report.verification
    if certificate is None or not certificate.passed:
        raise Broken("there is no certificate")
    if all(a.shape == b.shape for a, b in zip(model.parameters(), result.model.parameters())):  # noqa: B905
        return "silent", "no parameter is smaller"
    _check_weights(model, result)
    try:
        notes["opinion"] = second_opinion(model, result.model, result.plan, recipe.inputs(3, 1))
    except Lost as unknown:
        notes["lost"] = str(unknown)
    if not notes.get("opinion", 0.0) <= TOLERANCE:
        raise Unsound(f"differs by {notes['opinion']:.3g} relative")
    _check_runs(model, result.model, recipe.inputs(3, 2))
    if seed % ROUND_TRIP == 0:
        _check_round_trip(result, inputs)
    _check_untouched(model, before)
    return kind, reason


def _find_reachable(model: nn.Module, inputs: Inputs, request: Request) -> float | None:
    """Look for widths that meet a budget said to be unreachable: all, or many at random."""
    graph = capture(model, inputs)
    groups = find_groups(graph, keep=request.options["keep"])
    names = {n for n, _ in model.named_parameters()}
    count = (
        cost_of_macs(graph, groups, find_macs)
        if request.kind == "flops"
        else cost_of_params(graph, groups, names)
    )
    align = request.options["align"]
    ladders = build_ladders(groups, align=1 if align == "auto" else align, min_keep=1)
    lengths = ladders.lengths
    if np.prod(lengths.astype(float)) <= _COMBINATIONS:
        grids = np.meshgrid(*(np.arange(n) for n in lengths), indexing="ij")
        levels = np.stack([g.ravel() for g in grids], 1)
    else:
        levels = np.random.default_rng(0).integers(0, lengths, (_COMBINATIONS, len(lengths)))
    full = float(count(np.array([g.size for g in groups.groups]))[..., 0])
    costs = count(ladders.at(levels))[..., 0] / full
    met = costs[(costs >= (1 - SLACK) * request.ratio) & (costs <= request.ratio)]
    return float(met[0]) if len(met) else None


def _fingerprint(model: nn.Module) -> list[Any]:
    """Note what a caller could see change."""
    facts: list[Any] = [torch.get_rng_state()]
    for name, module in model.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, int | float | tuple | str)}
        facts.append((name, id(module), module.training, len(module._forward_hooks), plain))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        facts += [(name, id(tensor), tensor.requires_grad, tensor.grad is None), tensor.clone()]
    return facts


def _check_untouched(model: nn.Module, before: list[Any]) -> None:
    for a, b in zip(_fingerprint(model), before, strict=True):
        same = torch.equal(a, b) if isinstance(a, Tensor) else a == b
        if not same:
            raise Broken(f"the original changed: {a if not isinstance(a, Tensor) else 'a tensor'}")


def _check_weights(model: nn.Module, result: shrink.Result) -> None:
    """See that every tensor is the original's at the indices that the plan keeps."""
    smaller = result.model.state_dict()
    for name, tensor in model.state_dict().items():
        expected = tensor
        for dim, kept in result.plan.keep.get(name, {}).items():
            expected = expected.index_select(dim, torch.tensor(kept))
        if name not in smaller or not torch.equal(smaller[name], expected):
            raise Broken(f"{name} is not what the plan keeps of it")


def _check_runs(model: nn.Module, smaller: nn.Module, inputs: Inputs) -> None:
    """Evaluate, train and go backward at another batch size, as the original does."""
    shapes, names = [], []
    for network in (copy.deepcopy(model), smaller):
        with torch.no_grad():
            outputs = tensors_in(network.eval()(*inputs.args, **inputs.kwargs))
        shapes.append([tuple(x.shape) for x in outputs])
        with torch.random.fork_rng(devices=[]):
            outputs = tensors_in(network.train()(*inputs.args, **inputs.kwargs))
            torch.stack([x.square().mean() for x in outputs]).sum().backward()
        shapes[-1] += [tuple(x.shape) for x in outputs]
        names.append({n for n, p in network.named_parameters() if p.grad is not None})
        network.zero_grad()
        network.eval()
    if shapes[0] != shapes[1]:
        raise Broken(f"output shapes {shapes[1]} instead of {shapes[0]}")
    if names[0] != names[1]:
        raise Broken(f"gradients differ: {sorted(names[0] ^ names[1])[:3]}")


def _check_round_trip(result: shrink.Result, inputs: Inputs) -> None:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        result.save(Path(folder) / "out")
        loaded = shrink.load(Path(folder) / "out")
        model = result.model.eval()
        pairs = zip(
            tensors_in(loaded(*inputs.args, **inputs.kwargs)),
            tensors_in(model(*inputs.args, **inputs.kwargs)),
            strict=True,
        )
        for a, b in pairs:
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
                raise Broken("the loaded artifact computes something else")


def reduce(recipe: Recipe, fails: Callable[[Recipe], bool]) -> Recipe:
    """Find the simplest part of a recipe that still fails; the recipe itself if none does."""
    calm = settings(
        max_examples=60, database=None, deadline=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        return find(parts_of(recipe), fails, settings=calm)
    except NoSuchExample:
        return recipe
