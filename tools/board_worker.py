"""One model in one process, for `tools/coverage_board.py`: compress it to half its MACs, and check.

A server: it imports the libraries once, then forks for every line on standard input, so that each
model has a process, a memory and a time limit of its own. Run as `python tools/board_worker.py
CPU_SECONDS`; every line is a MODEL name as on shrink's command line, the answer is JSON lines and
an empty one.
"""

import contextlib
import gc
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import checks
import numpy as np
import torch
from checks import say
from torch import Tensor, nn

from shrink.api import compress
from shrink.capture.capture import capture
from shrink.core.errors import PlanError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs
from shrink.groups.cost import cost_of_macs
from shrink.groups.find import find_groups
from shrink.models import resolve
from shrink.rules.cost import find_macs
from shrink.rules.registry import find_normalised
from shrink.rules.site import Call, bind

BUDGET = 0.5
SEED = 0
SMALL_ENOUGH_TO_MASK = 5 * 10**9  # MACs; the masked original runs in float64


def main() -> None:
    """Serve: one fork per line."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limit = int(sys.argv[1])
    compress(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)),
        torch.ones(1, 3, 8, 8),
        flops=0.5,
        measure=False,
    )  # so that no model pays for what is imported on first use
    gc.freeze()
    answer(ready=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries warn of their own matters
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            run_model(line.strip())
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            late = number in (signal.SIGXCPU, signal.SIGKILL)
            answer(error=f"over {limit} CPU s" if late else signal.Signals(number).name)
        else:
            answer()


def answer(**facts: object) -> None:
    """End what is said of one thing."""
    if facts:
        say(**facts)
    print(flush=True)


def run_model(name: str) -> None:
    """Compress one model and say all that the board wants to know."""
    say(stage="build the model", error="died")
    try:
        _run(name)
        say(stage="", error="")
    except PlanError as error:
        say(error=f"PlanError: {checks.first_line(error)}", closest=error.closest)
    except Exception as error:  # noqa: BLE001  the failure is the result
        say(error=f"{type(error).__name__}: {checks.first_line(error)}")


def _run(name: str) -> None:
    found = resolve(name, weights="random", seed=SEED)
    model, inputs = found.module, found.inputs
    base = checks.resident()
    say(params_before=sum(p.numel() for p in model.parameters()), stage="inspect")
    graph = capture(model, inputs)
    groups = find_groups(graph)
    unexplained = frozen_without_reason(graph, groups)
    say(
        nodes=len(graph.ops),
        capture=graph.capture,
        frozen=reasons(groups),
        unexplained=unexplained[:3],
        unexplained_count=len(unexplained),
    )
    macs = cost_of_macs(graph, groups, find_macs)
    whole = np.array([g.size for g in groups.groups], dtype=np.int64)
    least, most = (float(macs(n)[..., 0]) for n in (np.minimum(whole, 1), whole))
    say(prunable_macs=1 - least / max(most, 1.0))
    # a choice by value among almost equal scores may go either way in the last bit
    comparable = graph.capture != "real" and not normalises_what_shrinks(graph, groups)
    del graph, groups
    say(stage="compress")
    cpu_s: dict[str, float] = {}
    result, peak = checks.peak_of(
        lambda: compress(
            model,
            inputs,
            flops=BUDGET,
            seed=SEED,
            measure=False,
            progress=lambda stage: timed(stage, cpu_s),
        )
    )
    report = result.report
    certificate = report.verification
    say(
        cpu_s=cpu_s,
        peak_bytes=peak - base,
        model_bytes=checks.bytes_of(model),
        form=report.model["form"],
        grafts=len(report.grafts),
        graft_classes=sorted({str(g.get("class", "")) for g in report.grafts}),
        error_relative=certificate.error if certificate else None,
        tolerance=certificate.tolerance if certificate else None,
        dtype=certificate.dtype if certificate else None,
        reported_ratio=report.after.macs / max(report.before.macs, 1),
        sliced=len(result.plan.keep),
    )
    macs_before = checks.count_both(model, result.model, inputs)
    if comparable and macs_before <= SMALL_ENOUGH_TO_MASK:
        say(stage="compare with the masked original")
        try:
            say(masked=checks.difference_to_masked(model, result.model, result.plan, inputs))
        except RuntimeError as error:  # the model's code names float32
            say(masked_not_run=checks.first_line(error))
    by_value = report.model["capture"] == "real"
    checks.check_runs(model, result.model, *batches(model, inputs), lengths_may_differ=by_value)


@contextlib.contextmanager
def timed(stage: str, cpu_s: dict[str, float]) -> Iterator[None]:
    """Note the CPU seconds of a stage."""
    start = time.process_time()
    yield
    cpu_s[stage] = time.process_time() - start


def batches(model: nn.Module, inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Make a batch of two for eval mode, and one for train mode with what training needs."""
    images = inputs.args[0] if inputs.args else None
    if not (isinstance(images, list) and images and isinstance(images[0], Tensor)):
        both = checks.twice(inputs)
        return both, both
    both = [image.clone() for image in (*images, *images)]
    return Inputs((both,)), Inputs((both, [_target(model, image) for image in both]))


def _target(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Name one object in an image, as torchvision's detectors want it."""
    height, width = image.shape[-2:]
    target = {
        "boxes": torch.tensor([[width / 4, height / 4, width / 2, height / 2]]),
        "labels": torch.tensor([1]),
    }
    heads = dict(model.named_modules())
    if "roi_heads.mask_head" in heads and heads["roi_heads.mask_head"] is not None:
        target["masks"] = torch.ones(1, height, width, dtype=torch.uint8)
    if "roi_heads.keypoint_head" in heads and heads["roi_heads.keypoint_head"] is not None:
        target["keypoints"] = torch.tensor([[width / 3, height / 3, 1.0]]).expand(1, 17, 3).clone()
    return target


def frozen_without_reason(graph: Graph, groups: ChannelGroups) -> list[str]:
    """List parameters no dimension of which shrinks or is listed as frozen: silently frozen."""
    told = {name for entry in (*groups.groups, *groups.frozen) for name, _ in entry.axes}
    parameters = (n for n, t in graph.stored.items() if isinstance(t, nn.Parameter))
    return [n for n in parameters if n not in told and graph.stored[n].numel() > 1]


def reasons(groups: ChannelGroups) -> list[list[Any]]:
    """Count frozen indices by reason: (reason, first place, indices)."""
    found: dict[str, list[Any]] = {}
    for entry in groups.frozen:
        row = found.setdefault(entry.reason, [entry.reason, entry.where, 0])
        row[2] += entry.size
    return list(found.values())


def normalises_what_shrinks(graph: Graph, groups: ChannelGroups) -> bool:
    """Tell whether statistics are taken over a dimension that can lose indices.

    Where none are, the smaller model is simply the original with zeros in its weights.
    """
    for node in graph.ops:
        rule = find_normalised(node.target)
        if rule is None:
            continue
        arguments = bind(node.target, node.args, node.kwargs)
        values = {
            n: groups.values[v.name][0]
            for n, v in arguments.items()
            if isinstance(v, torch.fx.Node) and groups.values.get(v.name)
        }
        shapes = {n: tuple(d.size for d in v) for n, v in values.items()}
        over = rule(Call(node.target, arguments, (), (), shapes, shapes, {}))
        if any(values[n][d].labels for n, dims in over.items() for d in dims):
            return True
    return False


if __name__ == "__main__":
    main()
