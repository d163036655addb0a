"""torchvision's models: their inputs and seeds."""

import pytest
import torch

from shrink import models
from tests.models.samples import shapes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("squeezenet1_1", [(1, 3, 224, 224)]),
        ("efficientnet_b1", [(1, 3, 240, 240)]),
        ("lraspp_mobilenet_v3_large", [(1, 3, 520, 520)]),
        ("r3d_18", [(1, 3, 16, 112, 112)]),
        ("raft_small", [(1, 3, 128, 128)] * 2),
        ("ssdlite320_mobilenet_v3_large", [(3, 320, 320)]),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", [(3, 320, 320)]),
        ("quantized_shufflenet_v2_x0_5", [(1, 3, 224, 224)]),
    ],
)
def test_each_torchvision_family_has_its_own_inputs(
    name: str, expected: list[tuple[int, ...]]
) -> None:
    resolved = models.resolve(name, weights="random")
    assert shapes(resolved) == expected
    assert not resolved.module.training
    assert resolved.weights_note == "random (seed 0)"
    assert resolved.warnings == ()


def test_random_weights_follow_the_seed_and_leave_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        models.resolve("squeezenet1_1", weights="random", seed=seed).module.state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)
