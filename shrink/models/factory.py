"""Models that a function of the user makes: `package.module:factory`, `path/to/file.py:factory`."""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from shrink.core.errors import InputError
from shrink.core.inputs import as_inputs
from shrink.models.source import Built, seeded


def build_factory(target: str, attribute: str, weights: str, seed: int) -> Built:
    """Call `attribute` of a package or file; it may name a module that is there already."""
    name = f"{target}:{attribute}"
    if weights in ("pretrained", "random"):
        raise InputError(
            f"a factory brings its own weights, --weights {weights} cannot change them",
            where=name,
            fix="pass --weights FILE, or leave the option out",
        )
    is_file = target.endswith(".py")
    with _on_path(Path(target).resolve().parent if is_file else Path.cwd()):
        found: Any = _import_file(Path(target)) if is_file else _import_module(target, name)
        for part in attribute.split("."):
            if not hasattr(found, part):
                near = difflib.get_close_matches(part, [n for n in vars(found) if n[0] != "_"])
                raise InputError(
                    f"no {part!r} in {target}" + (f"; near: {', '.join(near)}" if near else ""),
                    where=name,
                    fix="name a function that returns a module, or (module, example_inputs)",
                )
            found = getattr(found, part)
        if not isinstance(found, nn.Module):
            with seeded(seed):
                found = _call(found, name)
    module, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"the factory returned no module, but of type {type(module).__name__}",
            where=name,
            fix="return a torch.nn.Module, or (module, example_inputs)",
        )
    note = f"from the factory (seed {seed})"
    return Built(module, None if inputs is None else as_inputs(inputs), note)


def _call(factory: Callable[[], object], name: str) -> object:
    try:
        return factory()
    except Exception as error:
        raise InputError(
            f"the factory raised {type(error).__name__}: {error}",
            where=name,
            fix="give it a form that is called without arguments; --debug shows the traceback",
        ) from error


def _import_module(target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(target)
    except Exception as error:
        raise InputError(
            f"importing {target} raised {type(error).__name__}: {error}",
            where=name,
            fix="run where the package can be imported, or write path/to/file.py:factory",
        ) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name of its own, registered so that its classes can be pickled."""
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix="write path/to/file.py:factory")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"_shrink_model_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(
            f"importing the file raised {type(error).__name__}: {error}",
            where=str(path),
            fix="make `python FILE` run; --debug shows the traceback",
        ) from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
