"""Group L2 norm: mean Euclidean norm of a unit's slices."""

from shrink.criteria.norms import GroupNorm

L2 = GroupNorm(name="l2", order=2)
