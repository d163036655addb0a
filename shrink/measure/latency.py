"""Latency of several models, timed in one interleaved loop."""

import contextlib
import gc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from shrink.core.report import Latency, Speedup
from shrink.measure.prepare import Prepared

Samples: TypeAlias = NDArray[np.float64]

_ROUNDS = (10, 200)  # fewest and most passes of every model, unless `runs` says
_FEWEST_SLOW_ROUNDS = 3  # where 10 rounds would take four times the time allowed
_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Timing:
    """Milliseconds of every timed pass of one model, in the order of the rounds."""

    samples_ms: Samples

    @property
    def latency(self) -> Latency:
        """Summarise the samples."""
        p10, median, p90 = (float(q) for q in np.percentile(self.samples_ms, (10, 50, 90)))
        return Latency(median=median, p10=p10, p90=p90, runs=len(self.samples_ms))


def compare_latency(
    prepared: Sequence[Prepared],
    *,
    runs: int | None = None,
    warmup: int = 3,
    seconds: float = 8.0,
) -> tuple[Timing, ...]:
    """Time forward passes of models on one device, taking turns.

    Every round runs each model once, in alternating order, so that drift of the machine meets all
    of them alike. CPU: wall clock under `inference_mode`; CUDA: event pairs, and one
    synchronisation after the last round.

    Args:
        prepared: the models and their inputs (`shrink.measure.prepare`).
        runs: rounds to time; None for as many as fit in `seconds`, from 10 to 200.
        warmup: untimed rounds before, at least 1.
        seconds: time for everything when `runs` is None; exceeded where 10 rounds take longer.

    Returns:
        One timing per model, with one sample per round.
    """
    device = prepared[0].device
    on_cuda = device.type == "cuda"
    with (
        torch.inference_mode(),
        torch.cuda.device(device) if on_cuda else contextlib.nullcontext(),
        _no_collection(),
    ):
        start = time.perf_counter()
        for _ in range(max(warmup, 1)):
            round_start = time.perf_counter()
            for each in prepared:
                each.run()
            if on_cuda:
                torch.cuda.synchronize()
        now = time.perf_counter()
        rounds = runs or _rounds(start + seconds - now, now - round_start)
        if on_cuda:
            samples = _time_events(prepared, rounds)
        else:
            samples = _time_clock(prepared, rounds, math.inf if runs else start + seconds)
    return tuple(Timing(row) for row in samples)


def speedup(before: Samples, after: Samples, *, seed: int = 0) -> Speedup:
    """Compare two timings of one interleaved loop.

    Args:
        before: milliseconds per round, shape (rounds,).
        after: the same rounds of the other model.
        seed: of the resampling.

    Returns:
        The ratio of medians after / before, with its 95 % percentile interval from resampling whole
        rounds. Significant where the interval leaves 1 out.

    Source: paired bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    rounds = np.random.default_rng(seed).integers(0, len(before), (_RESAMPLES, len(before)))
    ratios = np.median(after[rounds], axis=1) / np.median(before[rounds], axis=1)
    low, high = (float(q) for q in np.percentile(ratios, (2.5, 97.5)))
    ratio = float(np.median(after) / np.median(before))
    return Speedup(ratio=ratio, low=low, high=high, significant=not low <= 1 <= high)


def _rounds(seconds: float, seconds_per_round: float) -> int:
    """Choose how many rounds to time in the time that is left."""
    fewest, most = _ROUNDS
    fitting = int(seconds / seconds_per_round)
    if fitting * 4 < fewest:
        return max(fitting * 4, _FEWEST_SLOW_ROUNDS)
    return min(max(fitting, fewest), most)


def _order(count: int, step: int) -> range:
    return range(count) if step % 2 == 0 else range(count - 1, -1, -1)


def _time_clock(prepared: Sequence[Prepared], rounds: int, deadline: float) -> Samples:
    """Time at most `rounds`; past the deadline of a machine that slowed down, the fewest do."""
    samples = np.empty((len(prepared), rounds))
    clock = time.perf_counter_ns
    for step in range(rounds):
        for i in _order(len(prepared), step):
            run = prepared[i].run
            start = clock()
            run()
            samples[i, step] = clock() - start
        if step + 1 >= _ROUNDS[0] and time.perf_counter() > deadline:
            return samples[:, : step + 1] / 1e6
    return samples / 1e6


def _time_events(prepared: Sequence[Prepared], rounds: int) -> Samples:
    events = [[(_event(), _event()) for _ in range(rounds)] for _ in prepared]
    for step in range(rounds):
        for i in _order(len(prepared), step):
            start, end = events[i][step]
            start.record()
            prepared[i].run()
            end.record()
    torch.cuda.synchronize()
    return np.array([[start.elapsed_time(end) for start, end in row] for row in events])


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's stub


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from running inside a timed pass."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
