"""From surviving units to kept indices of tensors, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrink.core.errors import InputError, PlanError
from shrink.core.groups import Axis, ChannelGroups
from shrink.core.plan import Decision, Plan
from shrink.plan.choose import Choice

_REPLAN = "make the plan again for this model: shrink compress"


def to_plan(
    groups: ChannelGroups,
    choice: Choice,
    shapes: Mapping[str, Sequence[int]],
    *,
    inputs: Mapping[str, Any],
    request: Mapping[str, Any],
) -> Plan:
    """Write the indices that survive of every axis that loses some.

    Args:
        groups: what is coupled.
        choice: which units survive.
        shapes: original shape of every parameter and buffer.
        inputs: description of the example inputs, as in `Plan`.
        request: what was asked for, as in `Plan`.

    Raises:
        PlanError: an axis would lose all its indices.
    """
    keep = _keep_indices(groups, choice.kept)
    for name, dims in keep.items():
        for dim, indices in dims.items():
            if not indices:
                raise PlanError(
                    f"no index of dimension {dim} would survive",
                    where=name,
                    fix="raise min_keep, or ask for a larger ratio",
                )
    return Plan(
        keep=keep,
        shapes={name: tuple(shapes[name]) for name in keep},
        inputs=inputs,
        decisions=tuple(
            Decision(group=group.name, size=group.size, kept=int(count), parts=len(group.parts))
            for group, count in zip(groups.groups, choice.counts, strict=True)
        ),
        request=request,
    )


def alive_units(groups: ChannelGroups, plan: Plan) -> NDArray[np.bool_]:
    """Read from a plan which units survive: those with a kept index in every axis they touch.

    Returns:
        Shape (units + 1,); the last entry is True. A unit that lies wholly inside removed ones
        (the channels of a removed conv group) counts as removed.

    Raises:
        InputError: the plan was made for another model: a tensor, dimension or size is not the
            model's, or the kept indices are not what any choice of units leaves.
    """
    axes = {(axis.tensor, axis.dim): axis for axis in groups.axes}
    for name, dims in plan.keep.items():
        for dim in dims:
            axis = axes.get((name, dim))
            if axis is None:
                raise InputError(
                    f"the plan slices dimension {dim}, which cannot shrink in this model",
                    where=name,
                    fix=_REPLAN,
                )
            if axis.size != plan.shapes[name][dim]:
                raise InputError(
                    f"the plan is for size {plan.shapes[name][dim]} of dimension {dim}, "
                    f"the model has {axis.size}",
                    where=name,
                    fix=_REPLAN,
                )

    alive = np.ones(groups.unit_count + 1, dtype=np.bool_)
    seen = np.zeros(groups.unit_count + 1, dtype=np.bool_)
    for axis in groups.axes:
        indices = plan.keep.get(axis.tensor, {}).get(axis.dim)
        if indices is None:
            continue  # every unit of a whole axis has a kept index
        survivors = np.array(indices, dtype=np.int64)
        for units in axis.units:
            seen[units] = False
            seen[units[survivors]] = True
            alive[units] &= seen[units]
    alive[-1] = True

    expected = _keep_indices(groups, alive)
    for name, dim in sorted(axes):
        planned = plan.keep.get(name, {}).get(dim)
        if planned != expected.get(name, {}).get(dim):
            raise InputError(
                f"the plan keeps indices of dimension {dim} that do not go together with the rest "
                "in this model",
                where=name,
                fix=_REPLAN,
            )
    return alive


def _keep_indices(
    groups: ChannelGroups, kept: NDArray[np.bool_]
) -> dict[str, dict[int, tuple[int, ...]]]:
    keep: dict[str, dict[int, tuple[int, ...]]] = {}
    survivors: dict[tuple[int, ...], tuple[int, ...]] = {}  # coupled axes often share their units
    for axis in groups.axes:
        key = tuple(map(id, axis.units))
        if key not in survivors:
            survivors[key] = tuple(np.flatnonzero(_alive(axis, kept)).tolist())
        if len(survivors[key]) < axis.size:
            keep.setdefault(axis.tensor, {})[axis.dim] = survivors[key]
    return keep


def _alive(axis: Axis, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the surviving indices of an axis, shape (size,)."""
    mask = np.ones(axis.size, dtype=np.bool_)
    for units in axis.units:
        mask &= kept[units]
    return mask
