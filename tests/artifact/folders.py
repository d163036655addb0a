"""Artifact folders to test with, and ways to damage them."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrink.artifact.save import save
from shrink.core.inputs import as_inputs
from shrink.core.plan import Decision, Plan

PLAN = Plan(
    keep={"0.weight": {0: (0, 1, 3), 1: (2,)}},
    shapes={"0.weight": (4, 3, 3, 3)},
    inputs={"args": [{"tensor": {"shape": [1, 3, 8, 8], "dtype": "float32"}}], "kwargs": {}},
    decisions=(Decision("0.weight:0", 4, 3),),
    request={"flops": 0.5},
    model="small",
)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 2),
    )
    with torch.no_grad():
        net(torch.randn(8, 3, 8, 8))  # running statistics that matter
    return net


def write(path: Path, model: nn.Module, example_inputs: Any, *, force: bool = False) -> Path:
    save(
        path,
        model=model,
        plan=PLAN,
        report_json='{"schema_version": 1}',
        report_md="# small\n",
        inputs=as_inputs(example_inputs),
        force=force,
    )
    return path


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def rehash(folder: Path) -> None:
    """Make the manifest agree with what the files are now."""

    def change(data: dict[str, Any]) -> None:
        for name, entry in data["files"].items():
            content = (folder / name).read_bytes()
            entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit_manifest(folder, change)


def rewrite_program(folder: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Pass every member of the program through `change`, and make the manifest agree."""
    path = folder / "program.pt2"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
    rehash(folder)


def edit_graph(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON of the program, and make the manifest agree."""

    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(("models/model.json", "serialized_exported_program.json")):
            return content
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    rewrite_program(folder, edit)
