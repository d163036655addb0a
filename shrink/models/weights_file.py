"""Weights from a file, and whether weights are sound."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shrink.core.errors import InputError
from shrink.models.source import quiet

# What training scripts call the weights in a checkpoint; averaged ones are the ones evaluated.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_weights(module: nn.Module, file: Path) -> str:
    """Copy the tensors of a file into a module; returns the note.

    Raises:
        InputError: the file cannot be read, or holds another model's tensors.
    """
    state, wrapper = _read_state(file)
    own = module.state_dict()
    state = _strip_prefixes(state, own)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    misshaped = [
        f"{k} {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    problems = [
        f"{len(keys)} {kind} ({'; '.join(keys[:3])}{'; ...' if len(keys) > 3 else ''})"
        for kind, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"the weights belong to another model: {', '.join(problems)}",
            where=str(file),
            fix="name the model that was trained, as path/to/file.py:factory if need be",
        )
    module.load_state_dict(state, strict=False)
    return f"file {file}" + (f" [{wrapper}]" if wrapper else "")


def _read_state(file: Path) -> tuple[dict[str, Tensor], str]:
    """Read a state dict; returns it with the name of the entry of the checkpoint it was in."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file), ""
        with quiet():
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler raises anything on junk
        raise InputError(
            f"cannot be read as weights ({type(error).__name__})",
            where=str(file),
            fix="save it with safetensors.torch.save_file(model.state_dict(), FILE)",
        ) from error
    wrapper = ""
    if isinstance(content, Mapping):
        entries = (n for n in _WRAPPERS if isinstance(content.get(n), Mapping))
        wrapper = next(entries, "")
        content = content[wrapper] if wrapper else content
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise InputError(
            "the file holds no state dict",
            where=str(file),
            fix="save it with torch.save(model.state_dict(), FILE)",
        )
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}, wrapper


def _strip_prefixes(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what DDP, torch.compile, EMA and trainers put before the names, and EMA's counter."""
    if "n_averaged" not in own:
        state.pop("n_averaged", None)
    while state and not state.keys() & own.keys():
        prefix = next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def check_finite(module: nn.Module) -> None:
    """Refuse a module with NaN anywhere, or an infinite parameter (masks are buffers with -inf).

    Raises:
        InputError: naming the first such tensor.
    """
    for tensors, infinite_allowed in (
        (module.named_parameters(), False),
        (module.named_buffers(), True),
    ):
        for name, tensor in tensors:
            if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
                continue
            low, high = torch.aminmax(tensor.detach())
            if low.isnan() or not (infinite_allowed or (low.isfinite() and high.isfinite())):
                raise InputError(
                    "the weights contain NaN" if low.isnan() else "the weights contain infinity",
                    where=name,
                    fix="train the model again, or pass a sound checkpoint with --weights FILE",
                )
