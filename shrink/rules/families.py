"""Import every family of rules, so that the registry is filled."""

from shrink.rules import (
    attention,
    complex_view,
    constant,
    conv,
    detect,
    embedding,
    index,
    join,
    linear,
    norm,
    pointwise,
    pool,
    recurrent,
    reduce,
    shape,
    window,
)

FAMILIES = (
    attention,
    complex_view,
    constant,
    conv,
    detect,
    embedding,
    index,
    join,
    linear,
    norm,
    pointwise,
    pool,
    recurrent,
    reduce,
    shape,
    window,
)
