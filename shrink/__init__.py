"""shrink: structured channel pruning for PyTorch: smaller dense networks, proven and measured.

Begin with `shrink.api`: `compress` is the whole pipeline in a dozen lines. Names are imported when
first used, so that `shrink --help` need not load torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shrink.api import (
        Inspection,
        Measurement,
        Result,
        apply,
        compress,
        inspect,
        load,
        load_plan,
        measure,
        verify,
    )
    from shrink.core.errors import (
        ArtifactError,
        CaptureError,
        InputError,
        PlanError,
        RewriteError,
        ShrinkError,
        UnsupportedOpError,
        VerificationError,
    )
    from shrink.core.plan import Plan
    from shrink.core.report import Certificate, Cost, Latency, Report
    from shrink.rules.registry import couples, normalises, resizes

_HOMES = {
    "shrink.api": (
        "Inspection",
        "Measurement",
        "Result",
        "apply",
        "compress",
        "inspect",
        "load",
        "load_plan",
        "measure",
        "verify",
    ),
    "shrink.core.errors": (
        "ArtifactError",
        "CaptureError",
        "InputError",
        "PlanError",
        "RewriteError",
        "ShrinkError",
        "UnsupportedOpError",
        "VerificationError",
    ),
    "shrink.core.plan": ("Plan",),
    "shrink.core.report": ("Certificate", "Cost", "Latency", "Report"),
    "shrink.rules.registry": ("couples", "normalises", "resizes"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ArtifactError",
    "CaptureError",
    "Certificate",
    "Cost",
    "InputError",
    "Inspection",
    "Latency",
    "Measurement",
    "Plan",
    "PlanError",
    "Report",
    "Result",
    "RewriteError",
    "ShrinkError",
    "UnsupportedOpError",
    "VerificationError",
    "apply",
    "compress",
    "couples",
    "inspect",
    "load",
    "load_plan",
    "measure",
    "normalises",
    "resizes",
    "verify",
]


class _Package(ModuleType):
    """Keeps `shrink.measure` the function: importing the folder of that name would replace it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'shrink' has no attribute {name!r}")
