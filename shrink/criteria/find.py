"""Resolving what the user calls a criterion."""

from difflib import get_close_matches

from shrink.core.errors import InputError
from shrink.criteria.criterion import Criterion
from shrink.criteria.l1 import L1
from shrink.criteria.l2 import L2
from shrink.criteria.random import RandomOrder


def find_criterion(criterion: str | Criterion, *, seed: int = 0) -> Criterion:
    """Return the criterion of that name, or the object itself if it is one.

    Args:
        criterion: `"l1"`, `"l2"`, `"random"`, or anything that fits `Criterion`.
        seed: for criteria that draw random numbers.

    Raises:
        InputError: no criterion has that name, or the object is none.
    """
    built_in: dict[str, Criterion] = {c.name: c for c in (L1, L2, RandomOrder(seed))}
    if isinstance(criterion, str):
        if criterion in built_in:
            return built_in[criterion]
        near = get_close_matches(criterion.lower(), built_in, n=1, cutoff=0.5)
        raise InputError(
            f"unknown criterion {criterion!r}; there are {', '.join(built_in)}",
            where=f"criterion={criterion}",
            fix=f"criterion={(near or ['l2'])[0]!r}",
        )
    if isinstance(criterion, Criterion) and callable(criterion):
        return criterion
    raise InputError(
        f"{type(criterion).__name__} is no criterion: it needs a `name` and "
        "`__call__(groups, tensors)`",
        where="criterion",
        fix="criterion='l2'",
    )
