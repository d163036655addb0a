"""A pipeline that does nothing but remember how it was called."""

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner, Result

import shrink
from shrink.artifact.manifest import FORMAT, VERSION
from shrink.cli.app import app
from shrink.core.plan import Plan
from shrink.report.document import to_json
from shrink.report.markdown import to_markdown
from tests.report.samples import FULL, INSPECTION, PROOF

FACTORY = """
from torch import nn, zeros

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), zeros(1, 4)
"""


@dataclass(frozen=True)
class FakeResult:
    """What `compress` and `apply` hand back."""

    report: Any = FULL

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write a folder that looks like an artifact."""
        write_folder(path, exist_ok=force)


@dataclass(frozen=True)
class FakeMeasurement:
    """What `measure` hands back."""

    cost: Any = FULL.before
    environment: Any = field(default_factory=lambda: dict(FULL.environment))


class FakeApi(ModuleType):
    """The pipeline's functions; `calls` holds what they were given, `error` is raised by all."""

    def __init__(self) -> None:
        super().__init__("shrink.api")
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.error: BaseException | None = None
        self.answers: dict[str, Any] = {
            "compress": FakeResult(),
            "inspect": INSPECTION,
            "measure": FakeMeasurement(),
            "apply": FakeResult(),
            "verify": PROOF,
            "load_plan": Plan(keep={}, shapes={}),
        }

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.answers:
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        self.calls[name] = (args, kwargs)
        progress = kwargs.get("progress") or nullcontext
        with progress("measure" if name == "measure" else "capture"):
            if self.error:
                raise self.error
        return self.answers[name]


def write_folder(path: Path, *, report: Any = FULL, exist_ok: bool = False) -> Path:
    """Write what is enough of an artifact for the commands that only read the report."""
    path.mkdir(parents=True, exist_ok=exist_ok)
    (path / "manifest.json").write_text(json.dumps({"format": FORMAT, "version": VERSION}))
    (path / "report.json").write_text(to_json(report))
    (path / "report.md").write_text(to_markdown(report))
    return path


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setitem(sys.modules, "shrink.api", fake)
    monkeypatch.setattr(shrink, "api", fake, raising=False)
    return fake


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder that holds net.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FACTORY)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("_shrink_model_net")]:
        del sys.modules[name]


@pytest.fixture
def run() -> Callable[..., Result]:
    def invoke(*args: str) -> Result:
        return CliRunner().invoke(app, list(args))

    return invoke


def module_of(call: tuple[tuple[Any, ...], dict[str, Any]], position: int = 0) -> nn.Module:
    """Get the module that a function of the pipeline was given."""
    module = call[0][position]
    assert isinstance(module, nn.Module)
    return module
