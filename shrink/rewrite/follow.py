"""Which literals follow which sizes, learned from captures that differ in the sizes of the inputs.

Nothing is concluded from one capture: a formula must give the literal in every one of them.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Generic, TypeVar

T = TypeVar("T")
_LARGEST_MULTIPLE = 64  # that sizes are padded to: windows, patches


@dataclass(frozen=True)
class Source(Generic[T]):
    """A number that is known when the generated code runs: a size of a tensor, an argument.

    Args:
        read: writes the code that reads it.
        now: its value at the example inputs after the cut.
        seen: its values before the cut, in every capture, the example inputs first.
    """

    read: Callable[[], T]
    now: int
    seen: tuple[int, ...]

    @property
    def varies(self) -> bool:
        """Whether it differs between the captures."""
        return any(n != self.seen[0] for n in self.seen)


@dataclass(frozen=True)
class Formula(Generic[T]):
    """`prod(above) * multiply // (prod(below) * divide) + add`, or the padding to a multiple."""

    above: tuple[Source[T], ...]
    below: tuple[Source[T], ...] = ()
    multiply: int = 1
    divide: int = 1
    add: int = 0
    pad_to: int = 0


def find_formula(
    now: int, seen: tuple[int, ...], sources: Sequence[Source[T]]
) -> Formula[T] | None:
    """Find a formula for a literal that differs between the captures.

    Args:
        now: the literal at the example inputs after the cut.
        seen: its values before the cut, in every capture.
        sources: what it may follow, nearest first.
    """
    moving = [s for s in sources if s.varies]
    for above, below in _quotients(moving):
        top, bottom = _products(above, len(seen)), _products(below, len(seen))
        if all(
            n * b * top[0] == seen[0] * bottom[0] * a
            for n, a, b in zip(seen, top, bottom, strict=True)
        ):
            multiply = now * prod(s.now for s in below)
            divide = prod(s.now for s in above)
            common = gcd(multiply, divide)
            return Formula(above, below, multiply // common, divide // common)
    for source in moving if now == seen[0] else ():
        if source.now != source.seen[0]:
            continue
        found = _linear(source, seen) or _padding(source, seen)
        if found is not None:
            return found
    return None


def _quotients(
    sources: Sequence[Source[T]],
) -> Iterator[tuple[tuple[Source[T], ...], tuple[Source[T], ...]]]:
    for source in sources:
        yield (source,), ()
    for pair in itertools.combinations(sources, 2):
        yield pair, ()
    for one, other in itertools.permutations(sources, 2):
        yield (one,), (other,)
    for three in itertools.combinations(sources, 3):
        yield three, ()


def _products(sources: Sequence[Source[T]], count: int) -> list[int]:
    return [prod(s.seen[i] for s in sources) for i in range(count)]


def _linear(source: Source[T], seen: tuple[int, ...]) -> Formula[T] | None:
    steps = {
        divmod(n - seen[0], s - source.seen[0])
        for n, s in zip(seen, source.seen, strict=True)
        if s != source.seen[0]
    }
    slope, rest = min(steps)
    add = seen[0] - slope * source.seen[0]
    fits = all(n == slope * s + add for n, s in zip(seen, source.seen, strict=True))
    if rest or not slope or not fits or len(set(source.seen)) < 3:
        return None
    return Formula((source,), multiply=slope, add=add)


def _padding(source: Source[T], seen: tuple[int, ...]) -> Formula[T] | None:
    for multiple in range(2, _LARGEST_MULTIPLE + 1):
        if all(-s % multiple == n for n, s in zip(seen, source.seen, strict=True)):
            return Formula((source,), pad_to=multiple)
    return None
