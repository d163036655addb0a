"""How to choose, beyond the budget."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from shrink.core.errors import InputError

ALIGNMENTS = (1, 4, 8, 16, 32)
RANKINGS = ("local", "global", "isomorphic")


@dataclass(frozen=True)
class Options:
    """Preferences of the planner.

    Args:
        align: stored channels come out as multiples of this (1, 4, 8, 16, 32), or stay whole.
            `"auto"`: multiples of 8, and of 4, 2 or 1 in as few groups as the budget needs.
        ranking: `"local"` (every group gives the same share), `"global"` (all units compete) or
            `"isomorphic"` (those of groups of equal structure do).
        min_keep: units that every part of every group keeps at least.

    Raises:
        InputError: an option out of range.
    """

    align: int | Literal["auto"] = "auto"
    ranking: str = "local"
    min_keep: int = 1

    def __post_init__(self) -> None:
        if self.align != "auto" and self.align not in ALIGNMENTS:
            raise InputError(
                f"unknown alignment; there are auto, {', '.join(map(str, ALIGNMENTS))}",
                where=f"align={self.align}",
                fix="align='auto'",
            )
        if self.ranking not in RANKINGS:
            near = get_close_matches(self.ranking.lower(), RANKINGS, n=1, cutoff=0.0)
            raise InputError(
                f"unknown ranking; there are {', '.join(RANKINGS)}",
                where=f"ranking={self.ranking}",
                fix=f"ranking={near[0]!r}",
            )
        if self.min_keep < 1:
            raise InputError(
                "every group keeps at least one unit",
                where=f"min_keep={self.min_keep}",
                fix="min_keep=1",
            )
