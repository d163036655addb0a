"""Numbers and their units."""

import pytest

from shrink.core.report import Latency, Speedup
from shrink.report import units


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0"),
        (512, "512"),
        (999_950, "1.00 M"),
        (25_557_032, "25.6 M"),
        (4_089_284_608, "4.09 G"),
        (127_518_000_000, "128 G"),
        (2.5e12, "2.50 T"),
    ],
)
def test_counts_have_three_digits(number: float, expected: str) -> None:
    assert units.count(number) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (102 * 2**20, "102 MiB"), (3 * 2**30, "3.00 GiB")],
)
def test_sizes_are_binary(number: int, expected: str) -> None:
    assert units.size(number) == expected


def test_a_share_of_nothing_is_a_dash() -> None:
    assert units.percent(1, 0) == "-"
    assert units.percent(1, 3) == "33.3 %"


def test_latency_gives_median_and_percentiles() -> None:
    assert units.latency(Latency(9.996, 0.123, 123.4, 10)) == "10.0 [0.12, 123]"


def test_a_gain_inside_the_noise_is_called_so() -> None:
    assert units.speedup(Speedup(0.98, 0.95, 1.01, significant=False)).endswith("not significant")
    assert "not significant" not in units.speedup(Speedup(0.5, 0.45, 0.55, significant=True))
