"""Prove that a model can be pruned: for a user's own continuous integration."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from shrink.api import compress
from shrink.core.errors import PlanError, VerificationError
from shrink.core.report import Report


def check_model(
    model: nn.Module,
    example_inputs: Any,  # Any: as for `compress`
    *,
    flops: Sequence[float] = (0.7, 0.4),
    seeds: Sequence[int] = (0, 1),
    **options: Any,  # Any: of `compress`
) -> tuple[Report, ...]:
    """Compress a model at several budgets, random channels each time, and verify every result.

    A budget that cannot be met is tried again at the closest that can.

    Args:
        model: must be left untouched.
        example_inputs: as for `compress`.
        flops: budgets to try.
        seeds: of the channels that go.
        options: further arguments of `compress`.

    Returns:
        The report of every compression.

    Raises:
        PlanError: nothing can be removed.
        VerificationError: a smaller model is not what it should be, or the model was changed.
    """
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reports = []
    for budget in flops:
        for seed in seeds:
            chosen = {"align": 1, **options, "criterion": "random", "seed": seed, "measure": False}
            try:
                found = compress(model, example_inputs, flops=budget, **chosen)
            except PlanError as error:
                if error.closest is None or not 0 < error.closest < 1:
                    raise
                closest = min(error.closest * 1.0001, 1 - 1e-9)
                found = compress(model, example_inputs, flops=closest, **chosen)
            reports.append(found.report)
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, before[name]):
            raise VerificationError("the model was changed", where=name, fix="report this model")
    return tuple(reports)
