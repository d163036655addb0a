"""The pipeline: capture -> groups -> criteria -> plan -> rewrite -> verify -> measure.

The file that joins the stages; begin with `compress`. `request.py` reads what was asked for,
`facts.py` gathers what the report says, `inspection.py` stops before anything is removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from shrink.artifact import load as _load
from shrink.artifact.plan_file import read_plan
from shrink.artifact.save import save
from shrink.capture.capture import capture, check_kinds
from shrink.capture.dispatch import record
from shrink.core.errors import InputError, VerificationError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, as_inputs, cut_named, make_inputs
from shrink.core.plan import Plan
from shrink.core.report import Certificate, Cost, Report, Speedup
from shrink.criteria.criterion import Criterion
from shrink.criteria.find import find_criterion
from shrink.facts import Costs, Facts, batch_of, count_cost, graph_macs, measure_both
from shrink.groups.find import find_groups
from shrink.groups.globs import kept_interface
from shrink.inspection import Inspection, inspect
from shrink.measure.environment import describe_environment
from shrink.measure.latency import compare_latency
from shrink.measure.macs import count_params
from shrink.measure.prepare import prepare
from shrink.plan.choose import choose
from shrink.plan.options import Options
from shrink.plans import check_fit, find_groups_again, read_kept, write_plan
from shrink.report.document import to_json
from shrink.report.markdown import to_markdown
from shrink.request import Progress, Stages, check_weights, choose_device, find_dtype, read_budget
from shrink.rewrite.rewrite import Rewrite, rewrite
from shrink.rules.registry import Couple
from shrink.verify.certify import certify

__all__ = [
    "Inspection",
    "Measurement",
    "Result",
    "apply",
    "compress",
    "inspect",
    "load",
    "load_plan",
    "measure",
    "verify",
]

_SLOW_TO_VERIFY = 10**10  # MACs; above, one random input instead of two: float64 takes its time


@dataclass(frozen=True, eq=False)
class Result:
    """A smaller model, how it was made, and what that bought.

    Args:
        model: the smaller model, of the user's own classes but for the grafts in the report.
        plan: what was kept.
        report: costs before and after, the certificate, warnings.
        inputs: the example inputs, without what `free` let go of them.
    """

    model: nn.Module
    plan: Plan
    report: Report
    inputs: Inputs

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the artifact folder, whole or not at all.

        Args:
            path: a folder that does not exist yet.
            force: replace an artifact folder that is there.

        Raises:
            ArtifactError: the folder exists, or cannot be written.
        """
        save(
            path,
            model=self.model,
            plan=self.plan,
            report_json=to_json(self.report),
            report_md=to_markdown(self.report),
            inputs=self.inputs,
            force=force,
        )


@dataclass(frozen=True)
class Measurement:
    """The cost of one model, and where it was measured."""

    cost: Cost
    environment: Mapping[str, Any]


def compress(  # noqa: PLR0913  the contract of the public API
    model: nn.Module,
    example_inputs: Any,  # Any: a tensor, a tuple of arguments, or a dict of keyword arguments
    *,
    flops: float | None = None,
    params: float | None = None,
    criterion: str | Criterion = "l2",
    ranking: str = "local",
    align: int | Literal["auto"] = "auto",
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    free: Sequence[str] = (),
    rules: Mapping[Any, Couple] | None = None,
    strict: bool = False,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "fp32",
    channels_last: bool = False,
    verify: bool = True,
    measure: bool = True,
    progress: Progress | None = None,
    name: str = "",
    weights: str = "",
    warnings: Sequence[str] = (),
) -> Result:
    """Make a model smaller to a budget, prove it right and measure what that bought.

    Args:
        model: any module that can be captured; left untouched.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        flops: share of the multiply-adds to keep, in (0, 1); met within [-1 %, 0 %].
        params: share of the parameters to keep, likewise. Give exactly one of the two.
        criterion: `"l2"`, `"l1"`, `"random"`, or a `Criterion` of your own.
        ranking: `"local"`, `"global"` or `"isomorphic"`.
        align: widths come out as multiples of this; `"auto"`: of 8 wherever the budget allows.
        keep: globs of layers or tensors that stay whole.
        only: globs of the layers whose output channels may go; empty for all.
        free: globs of the inputs and outputs that may shrink too (`output`, `output.logits`,
            `input:1`), or of the layers whose channels those are; none by default.
        rules: coupling rules by operator, for this call only.
        strict: raise where an operator has no rule, instead of freezing what it touches.
        seed: of everything random.
        device, dtype, channels_last: where and how latency is measured (`"auto"`: CUDA if there).
        verify, measure: whether to certify and to time the result here.
        progress: called with the name of each stage; returns a context manager.
        name, weights, warnings: what the report says of the model.

    Raises:
        InputError: an argument is out of range or does not fit the model.
        CaptureError: the model cannot be captured.
        PlanError: nothing can be removed, or the budget cannot be met.
        VerificationError: the smaller model is not what it should be; nothing is returned.
    """
    start = Stages(progress)
    target = choose_device(device)
    budget = read_budget(flops, params)
    score = find_criterion(criterion, seed=seed)
    options = Options(align=align, ranking=ranking)
    arithmetic = find_dtype(dtype)
    inputs = as_inputs(example_inputs)
    check_kinds(model, inputs)
    check_weights(model, run=verify or measure)
    name = name or type(model).__name__
    with start("capture"):
        graph = capture(model, inputs)
    with start("groups"):
        groups = find_groups(graph, keep=keep, only=only, free=free, rules=rules, strict=strict)
    with start("importance"):
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        importance = score(groups, tensors)
    with start("plan"):
        costs = Costs(graph, groups, model)
        choice = choose(groups, importance, budget, costs.of(budget.kind), options)
        request = {
            budget.kind: budget.ratio,
            "criterion": score.name,
            "ranking": ranking,
            "align": align,
            "keep": list(keep),
            "only": list(only),
            "free": list(free),
            "seed": seed,
        }
        plan = write_plan(graph, groups, choice, inputs, request, name)
    smaller_inputs: Inputs = cut_named(inputs, "input", plan.interface)
    with start("rewrite"):
        made = rewrite(model, inputs, graph, groups, plan, choice.kept, record=record)
    certificate = None
    if verify:
        with start("verify"):
            certificate = _certify(model, made, inputs, graph, groups, choice.kept, plan, seed=seed)
    facts = Facts(model, made, graph, groups, inputs, name, weights)
    after_graph_macs = round(float(costs.of("flops")(choice.counts)))
    reached = {
        "flops": after_graph_macs / max(int(costs.full("flops")), 1),
        "params": float(costs.of("params")(choice.counts)) / max(costs.full("params"), 1.0),
    }
    before = Cost(macs=round(costs.full("flops")), params=count_params(model))
    after = Cost(macs=after_graph_macs, params=count_params(made.model))
    gain: Speedup | None = None
    notes = [*warnings, *choice.notes]
    if measure:
        with start("measure"):
            before, after, gain, found = measure_both(
                model,
                made.model,
                (inputs, smaller_inputs),
                graph,
                target,
                arithmetic,
                channels_last=channels_last,
                seed=seed,
            )
            notes += found
    report = Report(
        model=facts.model(),
        request={**request, "reached": reached},
        before=before,
        after=after,
        verification=certificate,
        speedup=gain,
        environment={
            **describe_environment(target, dtype=arithmetic, batch=batch_of(inputs)),
            "channels_last": channels_last,
            "seed": seed,
        },
        layers=facts.layers(plan),
        grafts=made.grafts,
        frozen=facts.frozen(),
        warnings=tuple(notes),
        seconds=start.seconds,
    )
    return Result(made.model, plan, report, smaller_inputs)


def apply(  # noqa: PLR0913  the contract of the public API
    plan: Plan,
    model: nn.Module,
    example_inputs: Any = None,  # Any: as for `compress`
    *,
    rules: Mapping[Any, Couple] | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    name: str = "",
    weights: str = "",
    warnings: Sequence[str] = (),
) -> Result:
    """Replay a plan: the same weights of the same model, bit for bit.

    Args:
        plan: made by `compress` for a model of this architecture.
        model: left untouched.
        example_inputs: by default made from the plan's description.
        rules: coupling rules by operator, for this call only.
        verify: whether to certify the result here.
        progress: called with the name of each stage; returns a context manager.
        name, weights, warnings: what the report says of the model.

    Raises:
        InputError: the plan does not fit the model.
        VerificationError: the smaller model is not what it should be.
    """
    start = Stages(progress)
    inputs = make_inputs(plan.inputs) if example_inputs is None else as_inputs(example_inputs)
    check_kinds(model, inputs)
    check_fit(plan, model)
    with start("capture"):
        graph = capture(model, inputs)
    with start("groups"):
        groups = find_groups_again(plan, graph, rules)
    with start("plan"):
        kept = read_kept(plan, graph, groups)
        plan = replace(plan, interface=kept_interface(graph, groups, kept))
    smaller_inputs: Inputs = cut_named(inputs, "input", plan.interface)
    with start("rewrite"):
        made = rewrite(model, inputs, graph, groups, plan, kept, record=record)
    certificate = None
    if verify:
        with start("verify"):
            seed = int(plan.request.get("seed", 0))
            certificate = _certify(model, made, inputs, graph, groups, kept, plan, seed=seed)
    costs = Costs(graph, groups, model)
    smaller_graph = capture(made.model, smaller_inputs)
    facts = Facts(model, made, graph, groups, inputs, name or plan.model, weights)
    before = Cost(macs=round(costs.full("flops")), params=count_params(model))
    after = Cost(macs=graph_macs(smaller_graph), params=count_params(made.model))
    reached = {
        "flops": after.macs / max(before.macs, 1),
        "params": after.params / max(before.params, 1),
    }
    report = Report(
        model=facts.model(),
        request={**plan.request, "reached": reached},
        before=before,
        after=after,
        verification=certificate,
        environment=describe_environment("cpu", batch=batch_of(inputs)),
        layers=facts.layers(plan),
        grafts=made.grafts,
        frozen=facts.frozen(),
        warnings=tuple(warnings),
        seconds=start.seconds,
    )
    return Result(made.model, plan, report, smaller_inputs)


def measure(
    model: nn.Module,
    example_inputs: Any,  # Any: as for `compress`
    *,
    device: str = "auto",
    dtype: str = "fp32",
    channels_last: bool = False,
    progress: Progress | None = None,
) -> Measurement:
    """Measure one model: MACs, parameters, latency and peak memory.

    Raises:
        InputError: an argument is out of range, or CUDA is asked for and absent.
    """
    start = Stages(progress)
    inputs = as_inputs(example_inputs)
    target, arithmetic = choose_device(device), find_dtype(dtype)
    check_kinds(model, inputs)
    with start("measure"):
        prepared = prepare(
            model, inputs, device=target, dtype=arithmetic, channels_last=channels_last
        )
        (timing,) = compare_latency([prepared])
        cost = replace(count_cost(model, inputs, None, prepared)[0], latency_ms=timing.latency)
    environment = describe_environment(target, dtype=arithmetic, batch=batch_of(inputs))
    return Measurement(cost, {**environment, "channels_last": channels_last})


def load(path: str | PathLike[str]) -> nn.Module:
    """Load the network of an artifact folder; needs no original class and runs no pickle.

    Raises:
        ArtifactError: the folder is missing, damaged, oversized or tampered with.
    """
    return _load.load(path)


def load_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan from `plan.json` or from an artifact folder.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return _load.load_plan(path) if Path(path).is_dir() else read_plan(Path(path))


def verify(path: str | PathLike[str], model: nn.Module) -> Certificate:
    """Prove again that the weights of an artifact folder are those of `model` without channels.

    Args:
        path: an artifact folder.
        model: the original, with its weights.

    Raises:
        ArtifactError: the folder is damaged.
        InputError: the plan does not fit the model.
    """
    plan = _load.load_plan(path)
    weights = _load.load_weights(path)
    result = apply(plan, model, verify=False)
    own = result.model.state_dict()
    if set(own) != set(weights) or any(own[k].shape != weights[k].shape for k in own):
        raise InputError(
            "the weights in the folder do not fit the plan",
            where=str(path),
            fix="name the model and weights that the folder was made from",
        )
    result.model.load_state_dict(weights)
    inputs = make_inputs(plan.inputs)
    graph = capture(model, inputs)
    groups = find_groups_again(plan, graph)
    kept = read_kept(plan, graph, groups)
    return certify(model, result.model, inputs, graph, groups, kept, result.plan)


def _certify(
    model: nn.Module,
    made: Rewrite,
    inputs: Inputs,
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    plan: Plan,
    *,
    seed: int,
) -> Certificate:
    trials = 1 if graph_macs(graph) > _SLOW_TO_VERIFY else 2
    certificate = certify(
        model, made.model, inputs, graph, groups, kept, plan, seed=seed, trials=trials
    )
    if not certificate.passed:
        raise VerificationError(
            f"the smaller model differs by {certificate.error:.3g} relative "
            f"(tolerance {certificate.tolerance:g})",
            where=certificate.first_difference or type(model).__name__,
            fix="report this model; `keep` the layer named to go on without it",
        )
    return certificate
