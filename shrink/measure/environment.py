"""Where a measurement was made, as JSON values."""

import contextlib
import os
import platform
import re
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_CPU_INFO = Path("/proc/cpuinfo")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def describe_environment(
    device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32, batch: int = 1
) -> dict[str, Any]:
    """Collect the facts without which a number means nothing.

    Args:
        device: where the models ran.
        dtype: of their parameters.
        batch: examples per forward pass.

    Returns:
        `device, device_name, dtype, batch, threads, cpu, cpu_cores, cpu_capability, system,
        python`, the versions of `shrink, torch, torchvision`, `date` (UTC, ISO 8601), and on CUDA
        `cuda, cudnn, driver, compute_capability, clock_mhz, float32_matmul_precision`. Facts that
        cannot be had are None.
    """
    device = torch.device(device)
    on_cuda = device.type == "cuda"
    cpu = _cpu_name()
    facts: dict[str, Any] = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_cuda else cpu,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": batch,
        "threads": torch.get_num_threads(),
        "cpu": cpu,
        "cpu_cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("shrink", "torch", "torchvision")},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return facts | _cuda_facts(device) if on_cuda else facts


def _cpu_name() -> str:
    if _CPU_INFO.is_file():
        name = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(), re.MULTILINE)
        if name:
            return name[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    driver = None
    if _NVIDIA_DRIVER.is_file():
        found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", _NVIDIA_DRIVER.read_text())
        driver = found[0] if found else None
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's stub
    clock = None
    with contextlib.suppress(ModuleNotFoundError, RuntimeError):  # needs nvidia-ml-py
        clock = torch.cuda.clock_rate(device)
    return {
        "cuda": torch.version.cuda,
        "cudnn": cudnn,
        "driver": driver,
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "clock_mhz": clock,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
