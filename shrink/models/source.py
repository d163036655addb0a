"""What every source of models gives and needs: a module, its inputs, a quiet and seeded build."""

import difflib
import re
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrink.core.errors import InputError
from shrink.core.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Built:
    """A module with what its source knows; `inputs` is None where the source cannot know."""

    module: nn.Module
    inputs: Inputs | None
    note: str
    warnings: tuple[str, ...] = ()


def describe_tensor(*shape: int, dtype: str = "float32") -> dict[str, Any]:
    """Describe a tensor as `make_inputs` reads it."""
    return {"tensor": {"shape": list(shape), "dtype": dtype}}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seeded CPU generator inside; CUDA's generators are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the deprecation warnings of the libraries' own builders: nobody can act on them."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        yield


def unknown_name(name: str, known: list[str], *, scheme: str = "") -> InputError:
    """Say that a name is no model, and which known ones it is near to.

    Args:
        scheme: what stands before the names on the command line, `timm:`.
    """
    if not scheme and Path(name).is_dir():
        return InputError(
            "the folder is no artifact", where=name, fix="pass a folder that shrink wrote"
        )
    if not scheme and name.endswith(".py"):
        return InputError(
            "a file needs the name of a factory in it", where=name, fix=f"write {name}:build_model"
        )

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    by_plain = {plain(n): n for n in known}
    near = [n for n in by_plain if plain(name) and n.startswith(plain(name))]
    near += difflib.get_close_matches(plain(name), by_plain, n=4, cutoff=0.6)
    matches = ", ".join(scheme + by_plain[n] for n in dict.fromkeys(near[:4]))
    return InputError(
        f"no model of that name{f'; near: {matches}' if matches else ''}",
        where=scheme + name or "MODEL",
        fix="run `shrink models` for the names, or write path/to/file.py:factory"
        if not scheme
        else f"run `shrink models '{scheme}*'` for the names",
    )
