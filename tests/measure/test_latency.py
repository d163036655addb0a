"""Timing: shape and units of the samples, turns, and what the interval says."""

import gc
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shrink.core.inputs import Inputs
from shrink.measure import latency
from shrink.measure.latency import Timing, compare_latency, speedup
from shrink.measure.prepare import Prepared, prepare


class _Sleeps(nn.Module):
    """Takes a known time and writes its name in a log that copies share."""

    def __init__(self, name: str, milliseconds: float, log: list[str]) -> None:
        super().__init__()
        self.name = name
        self.milliseconds = milliseconds
        self.log = log

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.milliseconds / 1e3)
        self.log.append(self.name)
        assert not torch.is_grad_enabled()
        return x


def _prepared(name: str, milliseconds: float, log: list[str]) -> Prepared:
    inputs = Inputs((torch.rand(1),))
    return Prepared(_Sleeps(name, milliseconds, log), inputs, torch.device("cpu"))


def test_models_take_turns_in_alternating_order() -> None:
    log: list[str] = []
    pair = [_prepared("a", 0, log), _prepared("b", 0, log)]
    compare_latency(pair, runs=3, warmup=2)
    assert "".join(log) == "abab" + "ab" + "ba" + "ab"


def test_samples_are_milliseconds_of_each_model() -> None:
    slow, fast = compare_latency([_prepared("a", 4, []), _prepared("b", 1, [])], runs=5)
    assert slow.samples_ms.shape == fast.samples_ms.shape == (5,)
    assert (slow.samples_ms >= 4).all()
    assert (fast.samples_ms >= 1).all()
    assert slow.samples_ms.min() < 1000


def test_latency_summarises_the_samples() -> None:
    timing = Timing(np.arange(1.0, 12.0))
    assert (timing.latency.p10, timing.latency.median, timing.latency.p90) == (2, 6, 10)
    assert timing.latency.runs == 11


@pytest.mark.parametrize(
    ("seconds", "per_round", "expected"),
    [(8, 0.1, 80), (8, 0.001, 200), (2, 0.5, 10), (8, 3, 8), (8, 60, 3)],
    ids=["fitting", "most", "fewest", "slow", "very-slow"],
)
def test_rounds_fit_the_time_allowed(seconds: float, per_round: float, expected: int) -> None:
    assert latency._rounds(seconds, per_round) == expected


def test_unasked_runs_fill_the_time_allowed() -> None:
    (timing,) = compare_latency([_prepared("a", 2, [])], warmup=2, seconds=0.1)
    assert 10 <= timing.latency.runs <= 50


def test_a_machine_that_slows_down_is_given_the_fewest_rounds() -> None:
    pair = [_prepared("a", 0, []), _prepared("b", 0, [])]
    with torch.inference_mode():
        samples = latency._time_clock(pair, 50, deadline=0)
    assert samples.shape == (2, 10)


def test_collector_is_restored_when_interrupted() -> None:
    class Interrupts(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_latency([prepare(Interrupts(), Inputs((torch.rand(1),)))])
    assert gc.isenabled()
    assert torch.is_grad_enabled()


def test_speedup_finds_a_real_gain_under_shared_drift() -> None:
    random = np.random.default_rng(0)
    drift = np.linspace(10, 20, 60)
    before = drift + random.normal(0, 0.1, 60)
    after = 0.9 * drift + random.normal(0, 0.1, 60)
    found = speedup(before, after)
    assert found.low <= found.ratio <= found.high
    assert found.significant
    assert found.ratio == pytest.approx(0.9, abs=0.02)


def test_equal_models_are_rarely_called_different() -> None:
    random = np.random.default_rng(0)
    pairs = random.normal(10, 1, (200, 2, 30))
    called = sum(speedup(before, after).significant for before, after in pairs)
    assert called <= 0.1 * len(pairs)


def test_the_same_seed_gives_the_same_interval() -> None:
    before, after = np.random.default_rng(0).normal(10, 1, (2, 20))
    assert speedup(before, after, seed=3) == speedup(before, after, seed=3)
    assert speedup(before, after, seed=3) != speedup(before, after, seed=4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_samples_are_milliseconds() -> None:
    call = Inputs((torch.rand(8, 3, 64, 64),))
    pair = [prepare(nn.Conv2d(3, width, 3), call, device="cuda") for width in (64, 256)]
    narrow, wide = compare_latency(pair, runs=20)
    assert narrow.samples_ms.shape == (20,)
    assert 0 < np.median(narrow.samples_ms) < np.median(wide.samples_ms) < 1000
