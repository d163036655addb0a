"""Group L1 norm: mean sum of magnitudes of a unit's slices."""

from shrink.criteria.norms import GroupNorm

L1 = GroupNorm(name="l1", order=1)
