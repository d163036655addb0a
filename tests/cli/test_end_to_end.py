"""The commands with the real pipeline, on a model small enough for a test."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import shrink
from tests.cli.conftest import FakeApi

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = x + torch.relu(self.second(x))
        return self.head(x.flatten(1))


def build():
    return Net(), torch.randn(1, 3, 4, 4)


def without_channels():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), torch.randn(1, 3, 4, 4)


def broken():
    net = Net()
    net.second.weight.data[0, 0, 0, 0] = float("nan")
    return net, torch.randn(1, 3, 4, 4)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the real pipeline where the other tests of this folder put a fake one."""
    real = importlib.import_module("shrink.api")
    assert not isinstance(real, FakeApi)
    monkeypatch.setattr(shrink, "api", real, raising=False)


@pytest.fixture
def made(folder: Path, run) -> Path:
    """Compress the network to half its MACs."""
    (folder / "net.py").write_text(NET)
    result = run("compress", "net.py:build", "--flops", "0.5", "--no-measure", "--out", "made")
    assert result.exit_code == 0, result.stderr
    return folder / "made"


def test_the_report_and_the_weights_agree(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    assert 0.495 <= report["after"]["macs"] / report["before"]["macs"] <= 0.5
    assert report["verification"]["error"] <= report["verification"]["tolerance"] == 1e-9
    assert report["model"]["name"] == "net.py:build"
    widths = {layer["name"]: layer["after"] for layer in report["layers"]}
    weights = load_file(made / "model.safetensors")
    assert widths["first"] == len(weights["first.weight"]) < 32
    assert widths["head"] == 10


def test_measuring_adds_latency_and_memory(folder: Path, run) -> None:
    (folder / "net.py").write_text(NET)
    result = run("compress", "net.py:build", "--params", "0.6", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert 0.594 <= report["after"]["params"] / report["before"]["params"] <= 0.6
    assert report["after"]["latency_ms"]["runs"] > 0
    assert report["after"]["peak_bytes"] < report["before"]["peak_bytes"]
    assert report["speedup"]["low"] <= report["speedup"]["ratio"] <= report["speedup"]["high"]


def test_a_folder_can_be_verified_measured_inspected_and_compared(made: Path, run) -> None:
    proof = run("verify", "made", "--json")
    assert proof.exit_code == 0, proof.stderr
    assert json.loads(proof.stdout)["passed"] is True

    measured = json.loads(run("measure", "made", "--device", "cpu", "--json").stdout)
    report = json.loads((made / "report.json").read_text())
    assert measured["cost"]["macs"] == report["after"]["macs"]

    inspected = json.loads(run("inspect", "made", "--json").stdout)
    assert inspected["macs"] == report["after"]["macs"]
    assert {group["name"] for group in inspected["groups"]} == {"first.weight:0"}
    assert "verified: " in run("report", "made").stdout


def test_a_plan_gives_the_same_weights_again_and_others_for_others(made: Path, run) -> None:
    again = run("apply", "made", "net.py:build", "--out", "again")
    assert again.exit_code == 0, again.stderr
    assert "reached 0." in again.stdout
    same = Path("again/model.safetensors").read_bytes()
    assert same == (made / "model.safetensors").read_bytes()
    assert run("verify", "again").exit_code == 0

    other = run("apply", "made", "net.py:build", "--seed", "1", "--out", "other")
    assert other.exit_code == 0, other.stderr
    assert Path("other/model.safetensors").read_bytes() != same
    wrong = run("apply", "made", "net.py:without_channels", "--out", "wrong")
    assert wrong.exit_code == 2
    assert "the plan was made for shape" in wrong.stderr


@pytest.mark.usefixtures("made")
def test_weights_that_are_not_the_ones_proven_fail_the_proof(run) -> None:
    result = run("verify", "made", "--model", "net.py:broken")
    assert result.exit_code == 2
    assert "second.weight: the weights contain NaN" in result.stderr

    net = importlib.import_module("shrink.models").resolve("net.py:build", seed=1).module
    save_file(net.state_dict(), "other.safetensors")
    result = run("verify", "made", "--weights", "other.safetensors")
    assert result.exit_code == 3
    assert "VERIFICATION FAILED" in result.stderr


def test_a_damaged_folder_is_refused(made: Path, run) -> None:
    content = bytearray((made / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (made / "model.safetensors").write_bytes(content)
    result = run("measure", "made")
    assert result.exit_code == 2
    assert "made/model.safetensors: its content is not what the manifest says" in result.stderr


@pytest.mark.parametrize(
    ("model", "options", "code", "message"),
    [
        ("build", ["--flops", "0.000001"], 1, "PlanError: --flops 1e-06: the smallest network"),
        ("without_channels", ["--flops", "0.5"], 1, "network output (10 channels: 1)"),
        ("build", ["--flops", "0.5", "--keep", "*"], 1, "nothing to prune: user: --keep *"),
        ("build", ["--flops", "0.5", "--keep", "tail"], 2, "--keep tail: matches no"),
        ("build", ["--flops", "0.5", "--criterion", "l3"], 2, "fix: --criterion l2\n"),
        ("build", ["--flops", "0.5", "--input", "1,4,4,4"], 2, "CaptureError: first: "),
        ("broken", ["--flops", "0.5"], 2, "InputError: second.weight: the weights contain NaN"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_no_folder(
    folder: Path, run, model: str, options: list[str], code: int, message: str
) -> None:
    (folder / "net.py").write_text(NET)
    result = run("compress", f"net.py:{model}", *options, "--out", "made")
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in folder.iterdir()] == ["net.py"]


def test_the_remedy_that_is_named_works(folder: Path, run) -> None:
    (folder / "net.py").write_text(NET)
    arguments = ["compress", "net.py:build", "--no-measure"]
    refused = run(*arguments, "--flops", "0.3", "--align", "16")
    assert refused.exit_code == 1
    assert refused.stderr.endswith("fix: --align auto\n")
    refused = run(*arguments, "--flops", "0.001")
    assert refused.exit_code == 1
    remedy = refused.stderr.rpartition("fix: ")[2].split()
    accepted = run(*arguments, *remedy)
    assert accepted.exit_code == 0, accepted.stderr


def test_a_clean_process_loads_the_folder_without_the_class(made: Path) -> None:
    code = (
        "import sys, torch, shrink\n"
        "x = torch.ones(2, 3, 4, 4)\n"
        "y = shrink.load('made')(x)\n"
        "print(y.shape[0], y.shape[1], any('net' == m for m in sys.modules))"
    )
    (made.parent / "net.py").unlink()
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=made.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout == "2 10 False\n", result.stderr
    x = torch.ones(2, 3, 4, 4)
    assert torch.isfinite(shrink.load(made)(x)).all()
