"""Formulas for literals: what several captures agree on, and nothing that one of them denies."""

import pytest

from shrink.rewrite.follow import Source, find_formula


def _source(name: str, *seen: int, now: int | None = None) -> Source[str]:
    return Source(lambda: name, seen[0] if now is None else now, seen)


def _read(now: int, seen: tuple[int, ...], *sources: Source[str]) -> str | None:
    found = find_formula(now, seen, sources)
    if found is None:
        return None
    if found.pad_to:
        return f"-{found.above[0].read()} % {found.pad_to}"
    above = "*".join(s.read() for s in found.above)
    below = "/".join(["", *(s.read() for s in found.below)])
    return f"{above}{below} * {found.multiply}/{found.divide} + {found.add}"


B, L = _source("B", 1, 2, 3, 1, 1), _source("L", 16, 16, 16, 32, 48)
H = _source("H", 56, 112, 57, 64)


@pytest.mark.parametrize(
    ("seen", "now", "sources", "expected"),
    [
        ((16, 16, 16, 32, 48), 16, (B, L), "L * 1/1 + 0"),
        ((4, 8, 12, 4, 4), 3, (B, L), "B * 3/1 + 0"),
        ((16, 32, 48, 32, 48), 16, (B, L), "B*L * 1/1 + 0"),
        ((17, 17, 17, 33, 49), 17, (B, L), "L * 1/1 + 1"),
        ((2, 2, 2, 4, 6), 2, (B, L), "L * 1/8 + 0"),
        ((0, 0, 6, 6), 0, (H,), "-H % 7"),
        ((3, 5, 4, 9), 3, (H,), None),
    ],
    ids=["size", "cut", "product", "offset", "quotient", "padding", "unknown"],
)
def test_a_literal_follows_sizes(
    seen: tuple[int, ...], now: int, sources: tuple[Source[str], ...], expected: str | None
) -> None:
    assert _read(now, seen, *sources) == expected


def test_a_size_that_shrinks_itself_is_divided_by_what_is_left_of_it() -> None:
    merged = _source("BC", 32, 64, 96, now=24)  # batch times 32 channels, of which 24 stay
    assert _read(1, (1, 2, 3), merged) == "BC * 1/24 + 0"


def test_a_quotient_of_sizes_is_found() -> None:
    windows = _source("BW", 16, 32, 64, 144)
    batch = _source("B", 1, 2, 1, 1)
    assert _read(16, (16, 16, 64, 144), windows, batch) == "BW/B * 1/1 + 0"
