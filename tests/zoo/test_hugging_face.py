"""One model of transformers per modality: half the MACs, proven, and it trains."""

from typing import Any

import pytest

import shrink
from shrink.core.inputs import tensors_in
from shrink.models import resolve


@pytest.mark.parametrize(
    "name", ["bert", "LlamaForCausalLM", "vit", "swin", "wav2vec2", "t5", "siglip"]
)
def test_a_tiny_model_reaches_half_its_macs(name: str) -> None:
    pytest.importorskip("transformers")
    resolved = resolve(f"hf:{name}:tiny", weights="random")
    result = shrink.compress(resolved.module, resolved.inputs, flops=0.5, measure=False)
    report = result.report
    assert report.verification is not None
    assert report.verification.passed
    assert 0.495 <= report.after.macs / report.before.macs <= 0.5
    before: Any = resolved.module(**resolved.inputs.kwargs)
    after: Any = result.model.train()(**resolved.inputs.kwargs)
    assert type(after) is type(before)
    assert [t.shape for t in tensors_in(after)] == [t.shape for t in tensors_in(before)]
    sum(t.square().mean() for t in tensors_in(after)).backward()
    assert any(p.grad is not None for p in result.model.parameters())
