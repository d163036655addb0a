"""Import every family of rules, so that the registry is filled."""

from shrink.rules import (
    attention,
    constant,
    conv,
    embedding,
    linear,
    norm,
    pointwise,
    pool,
    reduce,
    shape,
)

FAMILIES = (
    attention,
    constant,
    conv,
    embedding,
    linear,
    norm,
    pointwise,
    pool,
    reduce,
    shape,
)
