"""One model in one process, for `tools/peer_table.py`: shrink, or Torch-Pruning, timed and checked.

Prints JSON lines; each adds facts to those before, so that a process that is killed has said how
far it came. Run as `python tools/peer_worker.py CPU_SECONDS JOB MODEL [NUMBER]`.
"""

import functools
import resource
import sys
import time
import warnings
from collections.abc import Callable

import torch
import torch_pruning
from checks import bytes_of, check_runs, count_both, first_line, peak_of, resident, say, twice
from torch import nn

from shrink.api import compress
from shrink.core.inputs import Inputs
from shrink.models import resolve

BUDGET = 0.5
CLASSES = 1000
SEED = 0
SIZE, INCEPTION = 224, 299  # pixels; inception_v3 takes no less


def main() -> None:
    """Run the job that the arguments name."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    limit, job, name, *numbers = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), resource.RLIM_INFINITY))
    say(stage="build the model")
    try:
        JOBS[job](name, *map(float, numbers))
        say(stage="")
    except Exception as error:  # noqa: BLE001  the failure is the result
        say(error=f"{type(error).__name__}: {first_line(error)}")


def build(name: str) -> tuple[nn.Module, Inputs]:
    """Build a torchvision model with seeded random weights, in eval mode, and one input image."""
    size = INCEPTION if name == "inception_v3" else SIZE
    found = resolve(name, weights="random", input=f"1,3,{size},{size}", seed=SEED)
    return found.module, found.inputs


def run_ours(name: str) -> None:
    """Compress to half the MACs: CPU time of the first and of the second run, then the checks."""
    model, inputs = build(name)
    half = functools.partial(compress, model, inputs, flops=BUDGET, seed=SEED, measure=False)
    for order in ("first", "second"):
        say(stage=f"compress, {order} run")
        start = time.process_time()
        half(verify=False)
        say(**{f"cpu_s_{order}": time.process_time() - start})
    say(stage="verify")
    result = half()
    certificate = result.report.verification
    say(
        form=result.report.model["form"],
        error_relative=certificate.error if certificate else None,
        tolerance=certificate.tolerance if certificate else None,
        dtype=certificate.dtype if certificate else None,
    )
    check(model, result.model, inputs)


def run_peer(name: str, ratio: float) -> None:
    """Prune with Torch-Pruning: CPU time of the first and of the second run, then the checks."""
    say(channel_ratio=ratio)
    original, inputs = build(name)
    pruned = original
    for order in ("first", "second"):
        model, _ = build(name)
        say(stage=f"prune, {order} run")
        start = time.process_time()
        prune(model, inputs, ratio)
        say(**{f"cpu_s_{order}": time.process_time() - start})
        pruned = model
    check(original, pruned, inputs)


def prune(model: nn.Module, inputs: Inputs, ratio: float) -> None:
    """Prune a model in place as Torch-Pruning's README does: nothing set for any architecture."""
    sizes = (
        (m, getattr(m, "out_features", getattr(m, "out_channels", 0))) for m in model.modules()
    )
    pruner = torch_pruning.pruner.BasePruner(
        model,
        inputs.args,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=False,
        pruning_ratio=ratio,
        ignored_layers=[module for module, size in sizes if size == CLASSES],
    )
    pruner.step()


def check(original: nn.Module, smaller: nn.Module, inputs: Inputs) -> None:
    """Run both modes and one backward pass on batch 2, and count MACs."""
    batch = twice(inputs)
    check_runs(original, smaller, batch, batch)
    count_both(original, smaller, inputs)


def measure_memory_of_ours(name: str) -> None:
    """Report peak resident memory of the pipeline, without and then with the certificate."""
    base = resident()
    model, inputs = build(name)
    half = functools.partial(compress, model, inputs, flops=BUDGET, seed=SEED, measure=False)
    say(model_bytes=bytes_of(model), stage="compress")
    peak = peak_of(lambda: half(verify=False))[1]  # that result must not outlive the call
    say(peak_bytes=peak - base, stage="compress and verify")
    result, peak = peak_of(half)
    say(peak_bytes_verified=peak - base, dtype=result.report.verification.dtype)


def measure_memory_of_peer(name: str, ratio: float) -> None:
    """Report peak resident memory of Torch-Pruning."""
    base = resident()
    model, inputs = build(name)
    say(model_bytes=bytes_of(model), stage="prune")
    _, peak = peak_of(lambda: prune(model, inputs, ratio))
    say(peak_bytes=peak - base)


JOBS: dict[str, Callable[..., None]] = {
    "ours": run_ours,
    "peer": run_peer,
    "memory-ours": measure_memory_of_ours,
    "memory-peer": measure_memory_of_peer,
}

if __name__ == "__main__":
    main()
