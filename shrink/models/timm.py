"""Models of timm, as `timm:NAME`."""

import importlib
from types import ModuleType
from typing import Any

from torch import nn

from shrink.core.errors import InputError
from shrink.core.inputs import make_inputs
from shrink.models.published import choose_weights, probe
from shrink.models.source import Built, describe_tensor, quiet, seeded, unknown_name


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(
            "timm is not installed", where="timm:", fix="pip install 'shrink[timm]'"
        ) from error


def list_timm() -> list[str]:
    """List the names of timm's models.

    Raises:
        InputError: timm is not installed.
    """
    names: list[str] = _import_timm().list_models()
    return names


def build_timm(name: str, weights: str, seed: int) -> Built:
    """Build a model of timm, at the resolution of its published configuration."""
    timm = _import_timm()
    if not timm.is_model(name):
        raise unknown_name(name, list_timm(), scheme="timm:")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(
            str(error), where=f"timm:{name}", fix=f"write timm:{name.partition('.')[0]}"
        ) from error

    def fetch() -> nn.Module:
        if not config or not config.has_weights:
            raise OSError("timm publishes none for this model")
        file = _cached_by_hub(config.hf_hub_id)
        if not file:
            probe("https://huggingface.co" if config.hf_hub_id else config.url)
        overlay = {"file": file} if file else None
        made: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        return made

    with quiet(), seeded(seed):
        module, note, warnings = choose_weights(
            weights,
            seed,
            fetch,
            lambda: timm.create_model(name),
            f"{name}.{config.tag}" if config and config.tag else name,
        )
    # Any: timm sets its configuration as an attribute of the module
    settings: Any = module.pretrained_cfg
    shape = settings["input_size"]
    inputs = make_inputs({"args": [describe_tensor(1, *shape)], "kwargs": {}}, seed=seed)
    return Built(module, inputs, note, warnings)


def _cached_by_hub(repository: str | None) -> str | None:
    if not repository:
        return None
    hub = importlib.import_module("huggingface_hub")
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = hub.try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return path
    return None
