"""Group norms against a plain computation, over dtypes and layouts."""

import numpy as np
import pytest
import torch
from torch import nn

from shrink.core.errors import InputError
from shrink.core.groups import Axis, ChannelGroup, ChannelGroups
from shrink.criteria import norms
from shrink.criteria.l1 import L1
from shrink.criteria.l2 import L2
from shrink.criteria.norms import GroupNorm
from tests.plan.chains import chain, couple


def weights(groups: ChannelGroups, dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    sizes = {(axis.tensor, axis.dim): axis.size for axis in groups.axes}
    tensors = {}
    for i in range(len(groups.groups) + 1):
        shape = (sizes.get((f"layer{i}.weight", 0), 10), sizes.get((f"layer{i}.weight", 1), 3))
        tensors[f"layer{i}.weight"] = nn.Parameter(
            torch.randn(shape, generator=generator).to(dtype)
        )
        bias = torch.randn(shape[:1], generator=generator).to(dtype)
        tensors[f"layer{i}.bias"] = nn.Parameter(bias)
    return tensors


@pytest.mark.parametrize("criterion", [L1, L2], ids=["l1", "l2"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 1e-5), (torch.bfloat16, 1e-5)],
)
def test_mean_norm_of_coupled_slices(
    criterion: GroupNorm, dtype: torch.dtype, tolerance: float
) -> None:
    groups = chain([5, 7])
    tensors = weights(groups, dtype)
    importance = criterion(groups, tensors)
    w = {name: tensor.detach().double().numpy() for name, tensor in tensors.items()}
    for i, units in enumerate((slice(0, 5), slice(5, 12))):
        slices = [w[f"layer{i}.weight"], w[f"layer{i}.bias"][:, None], w[f"layer{i + 1}.weight"].T]
        mean = np.mean([np.linalg.norm(s, ord=criterion.order, axis=1) for s in slices], axis=0)
        np.testing.assert_allclose(importance[units], mean / mean.mean(), rtol=tolerance)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("block", [1, 64, 1 << 18])
def test_every_dimension_of_a_convolution(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, block: int
) -> None:
    monkeypatch.setattr(norms, "_CPU_BLOCK", block)
    weight = torch.randn(6, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    for dim in range(4):
        size = weight.shape[dim]
        group = ChannelGroup("w", np.arange(size)[None], (("w", dim),), "")
        groups = couple([Axis("w", dim, size, (np.arange(size),))], [group])
        tensors = {"w": nn.Parameter(weight.contiguous(memory_format=layout))}
        expected = torch.linalg.vector_norm(weight, 2, [d for d in range(4) if d != dim])
        np.testing.assert_allclose(L2(groups, tensors), expected / expected.mean(), rtol=1e-5)


def test_units_with_several_indices_take_them_as_one_slice() -> None:
    weight = torch.tensor([[3.0, 4.0, 1.0, 0.0, 9.0]])
    columns = np.array([0, 0, 1, 1, -1])
    group = ChannelGroup("w", np.arange(2)[None], (("w", 1),), "")
    groups = couple([Axis("w", 1, 5, (columns,))], [group])
    np.testing.assert_allclose(L2(groups, {"w": nn.Parameter(weight)}), [5 / 3, 1 / 3])
    np.testing.assert_allclose(L1(groups, {"w": nn.Parameter(weight)}), [7 / 4, 1 / 4])


def test_an_index_counts_for_every_unit_it_carries() -> None:
    weight = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    head, position = np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3])
    parts = [
        ChannelGroup(str(i), np.array([u]), (("w", 0),), "") for i, u in enumerate([[0, 1], [2, 3]])
    ]
    groups = couple([Axis("w", 0, 4, (head, position))], parts)
    np.testing.assert_allclose(L1(groups, {"w": nn.Parameter(weight)}), [0.6, 1.4, 0.8, 1.2])


def test_buffers_do_not_count_and_may_be_infinite() -> None:
    groups = chain([5, 7])
    tensors = weights(groups)
    expected = L2(groups, {k: v for k, v in tensors.items() if k != "layer0.bias"})
    buffer = torch.full((5,), -torch.inf)
    np.testing.assert_array_equal(L2(groups, {**tensors, "layer0.bias": buffer}), expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["layer1.weight", "layer2.bias"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float) -> None:
    groups = chain([5, 7])
    tensors = weights(groups)
    with torch.no_grad():
        tensors[name].flatten()[3] = value
    with pytest.raises(InputError, match="NaN or infinite") as caught:
        L2(groups, tensors)
    assert caught.value.where == name
    assert "load weights" in caught.value.fix


def test_nan_in_a_buffer_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        L2(chain([5]), {**weights(chain([5])), "bn.running_var": torch.tensor([1.0, torch.nan])})
    assert caught.value.where == "bn.running_var"
    assert caught.value.fix


def test_dead_and_empty_tensors_are_harmless() -> None:
    groups = chain([5, 7])
    tensors = {name: nn.Parameter(torch.zeros_like(w)) for name, w in weights(groups).items()}
    extra = {"empty": nn.Parameter(torch.zeros(0, 3)), "scalar": nn.Parameter(torch.tensor(2.0))}
    steps = {"bn.num_batches_tracked": torch.tensor(3)}
    assert not L2(groups, {**tensors, **extra, **steps}).any()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu() -> None:
    groups = chain([64, 128])
    tensors = weights(groups)
    moved = {name: nn.Parameter(tensor.detach().cuda()) for name, tensor in tensors.items()}
    np.testing.assert_allclose(L2(groups, moved), L2(groups, tensors), rtol=1e-5)
