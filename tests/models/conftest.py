"""What tests of MODEL names share: no network, and a file with factories."""

from pathlib import Path

import pytest

from shrink.models import published, timm

FACTORY = """
from torch import nn, ones
from sibling_{tag} import WIDTH

def build():
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU())

def with_inputs():
    return build(), ones(2, 3, 5, 5)

def broken():
    raise RuntimeError("no licence")

def wrong():
    return 3

class Space:
    ready = nn.Linear(2, 2)
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(url: str) -> None:
        raise OSError(f"{url} is not to be asked")

    monkeypatch.setattr(published, "probe", refuse)
    monkeypatch.setattr(timm, "probe", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tag = tmp_path.name.replace("-", "_")
    (tmp_path / f"sibling_{tag}.py").write_text("WIDTH = 6\n")
    path = tmp_path / "net.py"
    path.write_text(FACTORY.format(tag=tag))
    return path
