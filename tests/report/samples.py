"""One report with everything in it, one with as little as possible, and the golden files."""

from pathlib import Path
from typing import Any

from shrink.core.report import Certificate, Cost, Latency, LayerWidth, Report, Speedup

GOLDEN = Path(__file__).parent.parent / "golden"

PROOF = Certificate(
    passed=True, error=2.13e-15, tolerance=1e-9, dtype="float64", device="cpu", trials=3
)

FULL = Report(
    model={"name": "resnet50", "weights": "random (seed 0)", "form": "module", "capture": "export"},
    request={"flops": 0.5, "params": None, "criterion": "l2", "reached": {"flops": 0.4987}},
    before=Cost(4089284608, 25557032, Latency(82.14, 80.0, 85.31, 50), 131072000, {"aten::foo": 2}),
    after=Cost(2039284608, 12800000, Latency(45.2, 44.01, 47.9, 50), 73400320, {"aten::foo": 2}),
    verification=PROOF,
    speedup=Speedup(0.5503, 0.521, 0.584, significant=True),
    environment={
        "device": "cpu",
        "dtype": "fp32",
        "batch": 1,
        "threads": 2,
        "versions": {"torch": "2.15.0"},
    },
    layers=(LayerWidth("conv1", "Conv2d", 64, 32), LayerWidth("fc", "Linear", 1000, 1000)),
    grafts=({"module": "encoder.1", "reason": "reshape to a fixed size"},),
    frozen=({"reason": "network output", "channels": 1000, "places": ["fc.weight:0"]},),
    warnings=("the weights are RANDOM (seed 0)",),
    seconds={"capture": 0.5, "groups": 0.25},
)

SMALL = Report(
    model={"name": "net [v1]|x"},
    request={"params": 0.7, "reached": {"params": 0.699}},
    before=Cost(999, 1000),
    after=Cost(500, 699),
)

INSPECTION: dict[str, Any] = {
    "groups": [
        {
            "name": "conv1.weight:0",
            "size": 64,
            "parts": 1,
            "nested": False,
            "axes": [["conv1.weight", 0], ["bn1.weight", 0]],
            "structure": "a",
            "kind": "channels",
            "macs_share": 0.1,
            "params_share": 0.05,
        },
        {
            "name": "attn.qkv.weight:0",
            "size": 32,
            "parts": 6,
            "nested": True,
            "axes": [["attn.qkv.weight", 0]],
            "structure": "b",
            "kind": "head dims",
            "macs_share": 0.5,
            "params_share": 0.25,
        },
        *(
            {
                "name": f"block.{i}.conv.weight:0",
                "size": 16,
                "parts": 1,
                "nested": False,
                "axes": [[f"block.{i}.conv.weight", 0]],
                "structure": "c",
                "kind": "channels",
                "macs_share": 0.01,
                "params_share": 0.02,
            }
            for i in range(3)
        ),
    ],
    "frozen": [
        {
            "axes": [["fc.weight", 0], ["fc.bias", 0]],
            "size": 1000,
            "reason": "network output",
            "where": "fc (models/net.py:12)",
            "module": "fc",
            "source": "models/net.py:12",
            "remedy": "free=['output']",
        }
    ],
    "form": "grafts",
    "grafts": [{"module": f"block.{i}.attn", "class": "Attention", "reason": "r"} for i in (0, 1)],
    "problem": "",
    "schema_version": 1,
    "prunable_macs": 0.97,
    "prunable_params": 0.9,
    "macs": 4089284608,
    "params": 25557032,
    "capture": "export",
}


def golden(name: str) -> str:
    """Read an expected text."""
    return (GOLDEN / name).read_text(encoding="utf-8")
