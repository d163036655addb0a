"""What the smaller network may cost."""

from dataclasses import dataclass
from difflib import get_close_matches

from shrink.core.errors import InputError

KINDS = ("flops", "params")
SLACK = 0.01  # a budget is met from (1 - SLACK) of the request up to the request, never above


@dataclass(frozen=True)
class Budget:
    """A share of the original's cost.

    Args:
        kind: `"flops"` (MACs) or `"params"`.
        ratio: cost after / cost before, in (0, 1).

    Raises:
        InputError: an unknown kind, or a ratio that is not in (0, 1).
    """

    kind: str
    ratio: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = get_close_matches(self.kind, KINDS, n=1, cutoff=0.0)
            raise InputError(
                f"unknown budget; there are {', '.join(KINDS)}",
                where=f"{self.kind}={self.ratio:g}",
                fix=f"{near[0]}=0.5",
            )
        if not 0 < self.ratio < 1:  # so written, it refuses NaN
            meant = self.ratio / 100 if 2 <= self.ratio < 100 else 0.5  # a percentage
            raise InputError(
                "a budget is a ratio of the original between 0 and 1",
                where=f"{self.kind}={self.ratio:g}",
                fix=f"{self.kind}={meant:g}",
            )
