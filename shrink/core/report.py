"""What was measured and proven, as plain data; `docs/REPORT.md` has the schema."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Latency:
    """Milliseconds per forward pass: median, 10th and 90th percentile over `runs` timed passes."""

    median: float
    p10: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Cost:
    """What one forward pass of one model costs.

    Args:
        macs: multiply-adds in fvcore's convention, at the batch of the example inputs.
        params: number of parameter elements (shared ones once).
        latency_ms: None when it was not measured.
        peak_bytes: peak memory of a forward pass: the CUDA allocator's figure on CUDA; on the CPU
            parameters plus the activation peak computed from the graph. None when not measured.
        uncounted: operators that `macs` leaves out, with how often they occur.
    """

    macs: int
    params: int
    latency_ms: Latency | None = None
    peak_bytes: int | None = None
    uncounted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Speedup:
    """Latency after / before, from interleaved runs.

    Args:
        ratio: median after / median before; below 1 is faster.
        low, high: bootstrap 95 % interval of the ratio.
        significant: the interval does not contain 1.
    """

    ratio: float
    low: float
    high: float
    significant: bool


@dataclass(frozen=True)
class Certificate:
    """Proof that the smaller model computes what the original computes without the channels.

    Args:
        passed: `error <= tolerance` for every output of every trial.
        error: largest relative difference seen (max |difference| / max |reference|).
        tolerance: the bound it had to meet.
        dtype: arithmetic it was checked in, `float64` unless the model is too large.
        device: where.
        trials: number of fresh random inputs.
        first_difference: first module whose output differs, when it failed.
    """

    passed: bool
    error: float
    tolerance: float
    dtype: str
    device: str
    trials: int
    first_difference: str = ""


@dataclass(frozen=True)
class LayerWidth:
    """Width of one layer before and after, for the per-layer table."""

    name: str
    kind: str
    before: int
    after: int


@dataclass(frozen=True)
class Report:
    """Everything one run has to say.

    Args:
        model: `name`, `weights`, `form` (module, grafts, program), `capture` (which one was used).
        request: budget and options as asked for, and `reached` ratios.
        verification: None when it was switched off.
        speedup: None when latency was not measured.
        environment: device, dtype, batch, versions, threads, command, seed, date.
        layers: width of every layer that has one.
        grafts: modules that were regenerated from the graph, and why.
        frozen: axes that stayed whole: reason -> how many channels, with the first places.
        warnings: what the reader must know (random weights, uncounted operators, ...).
        seconds: wall time of each stage.
    """

    model: Mapping[str, Any]
    request: Mapping[str, Any]
    before: Cost
    after: Cost
    verification: Certificate | None = None
    speedup: Speedup | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[LayerWidth, ...] = ()
    grafts: tuple[Mapping[str, str], ...] = ()
    frozen: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
