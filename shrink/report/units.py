"""Numbers with their units, as a person reads them."""

from shrink.core.report import Latency, Speedup

_STEPS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def count(number: float) -> str:
    """Write a count with three digits and a decimal prefix: `4.09 G`, `25.6 M`, `512`."""
    for step, suffix in _STEPS:
        # 999_950 would print as 1000 k
        if number >= step * 0.9995:
            return f"{_three_digits(number / step)}{suffix}"
    return f"{number:g}"


def size(number: int) -> str:
    """Write a number of bytes with three digits and a binary unit: `97.5 MiB`."""
    for step, unit in _BINARY:
        if number >= step * 0.9995:
            return f"{_three_digits(number / step)} {unit}"
    return f"{number} B"


def percent(after: float, before: float) -> str:
    """Write a share: `49.9 %`; `-` where there is nothing to divide by."""
    return f"{100 * after / before:.1f} %" if before else "-"


def latency(value: Latency) -> str:
    """Write milliseconds as `median [p10, p90]`."""
    low, high = _three_digits(value.p10), _three_digits(value.p90)
    return f"{_three_digits(value.median)} [{low}, {high}]"


def speedup(value: Speedup) -> str:
    """Write a latency ratio with its 95 % interval, and whether it is more than noise."""
    text = f"{100 * value.ratio:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"
    return text if value.significant else f"{text} not significant"


def _three_digits(number: float) -> str:
    if abs(number) >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 9.995 else f"{number:.2f}"
