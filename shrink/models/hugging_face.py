"""Models of transformers, as `hf:NAME`: built from a configuration, offline.

NAME is a model type (`bert`), a class (`BertForMaskedLM`) or a folder (`./folder`, weights read
from safetensors); `:tiny` makes it small, `?key=value,...` changes its configuration. Code that
comes with a folder is never run.
"""

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from shrink.core.errors import InputError
from shrink.core.inputs import Inputs, make_inputs, map_tensors
from shrink.models.forward_inputs import propose_inputs
from shrink.models.published import choose_weights
from shrink.models.source import Built, quiet, seeded, unknown_name
from shrink.models.tiny_config import Config, keep_layers, make_shallow, make_tiny

_BYTES = 4  # of a float32
_PEAK = 3  # the pipeline's memory, certificate included, in sizes of the model
_KERNELS = ("eager", "sdpa")
# What a backbone works out from its layers, and what reaches for the network.
_DERIVED = frozenset({"out_features", "out_indices", "_out_indices", "stage_names"})
_OFFLINE = {"use_pretrained_backbone": False, "use_cache": False}
_NO_CHECKPOINT = "a type or class names no checkpoint; a downloaded folder is hf:./FOLDER"

Class = Any  # a class of transformers, which is imported only when it is asked for


@dataclass(frozen=True, eq=False)
class _Request:
    """What a name asks for.

    Args:
        kind: a class of models.
        config: an instance of its configuration.
        folder: where the weights are, if a folder was named.
        is_changed: whether the folder's weights cannot fit any more.
    """

    kind: Class
    config: Any  # Any: a PreTrainedConfig
    folder: Path | None
    is_changed: bool


def list_hugging_face() -> list[str]:
    """List the types and classes of transformers that can be built.

    Raises:
        InputError: transformers is not installed.
    """
    _import_transformers()
    names = _auto_names()
    return sorted({*names, *(c for classes in names.values() for c in classes)})


def build_hugging_face(name: str, weights: str, seed: int) -> Built:
    """Build a model of transformers, with inputs found from its signature and configuration.

    Raises:
        InputError: the name, an override or the folder is not understood, the model does not fit
            into memory, or no inputs are found on which it runs.
    """
    transformers = _import_transformers()
    where = f"hf:{name}"
    with _silent(transformers), seeded(seed):
        plain, is_tiny, overrides = _parse(name)
        request = _change(_find(transformers, plain), overrides, is_tiny=is_tiny, where=where)
        empty = _on_meta(request)
        if empty is not None:
            _check_memory(sum(p.numel() for p in empty.parameters()), where)

        def fetch() -> nn.Module:
            if request.folder is None:
                raise OSError(_NO_CHECKPOINT)
            if request.is_changed:
                raise OSError("those in the folder do not fit a tiny form")
            return _load(request, request.folder)

        module, note, warnings = choose_weights(
            weights, seed, fetch, lambda: _construct(request, where), where
        )
    return Built(module, _find_inputs(empty, module, request, seed), note, warnings)


def _import_transformers() -> ModuleType:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "transformers is not installed", where="hf:", fix="pip install 'shrink[hf]'"
        ) from error


@contextmanager
def _silent(transformers: ModuleType) -> Iterator[None]:
    """Hide what the library says while it builds: default configurations warn of themselves."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with quiet():
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _auto_names() -> dict[str, list[str]]:
    """Name the classes of every model type, the bare model first."""
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    tables = sorted(n for n in vars(auto) if re.fullmatch(r"MODEL_.*MAPPING_NAMES", n))
    found: dict[str, list[str]] = {}
    for table in ("MODEL_MAPPING_NAMES", *tables):
        for kind, classes in vars(auto)[table].items():
            several = classes if isinstance(classes, tuple | list) else [classes]
            found.setdefault(kind, []).extend(several)
    return found


def _parse(name: str) -> tuple[str, bool, dict[str, Any]]:
    """Split `NAME[:tiny][?key=value,...]`; values are JSON, or else text."""
    plain, _, text = name.partition("?")
    overrides: dict[str, Any] = {}
    for entry in re.split(r",(?![^\[\]]*\])", text) if text else ():
        key, equals, value = entry.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"cannot read {entry!r} as an override",
                where=f"hf:{name}",
                fix=f"write 'hf:{plain}?num_hidden_layers=2,hidden_size=256'",
            )
        try:
            overrides[key.strip()] = json.loads(value)
        except ValueError:
            overrides[key.strip()] = value.strip()
    return plain.removesuffix(":tiny"), plain.endswith(":tiny"), overrides


def _find(transformers: ModuleType, name: str) -> _Request:
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) or (folder / "config.json").is_file():
        return _find_folder(transformers, folder)
    names = _auto_names()
    if name in names:
        kind = _class(transformers, names[name][0])
        return _Request(kind, _default(kind.config_class, name), None, is_changed=False)
    kind = getattr(transformers, name, None) if re.fullmatch(r"[A-Za-z]\w+", name) else None
    config_class = getattr(kind, "config_class", None)
    if not isinstance(kind, type) or config_class is None or not issubclass(kind, nn.Module):
        raise unknown_name(name, list_hugging_face(), scheme="hf:")
    return _Request(kind, _default(config_class, name), None, is_changed=False)


def _class(transformers: ModuleType, name: str) -> Class:
    try:
        return getattr(transformers, name)
    except (AttributeError, ImportError) as error:
        raise InputError(
            f"transformers cannot give {name}: {error}", where=name, fix="name another class"
        ) from error


def _default(config_class: Class, name: str) -> Any:
    try:
        return config_class()
    except Exception as error:  # a class may demand arguments that only a checkpoint has
        raise InputError(
            f"its configuration has no default form: {_first_line(error)}",
            where=f"hf:{name}",
            fix=f"save a configuration, and name its folder: {config_class.__name__}(...)"
            ".save_pretrained('folder'), hf:./folder",
        ) from error


def _find_folder(transformers: ModuleType, folder: Path) -> _Request:
    if not (folder / "config.json").is_file():
        raise InputError(
            "the folder has no config.json", where=str(folder), fix="save_pretrained writes one"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever a damaged or foreign file makes the library raise
        raise InputError(
            f"cannot be read without code of its own: {_first_line(error)}",
            where=str(folder / "config.json"),
            fix="load it in a factory of yours, path/to/file.py:factory",
        ) from error
    if config._attn_implementation not in (None, *_KERNELS):  # fetched, or for other devices
        config._attn_implementation = None
    stated = [c for c in config.architectures or () if hasattr(transformers, c)]
    named = stated or _auto_names().get(config.model_type)
    if not named:
        raise InputError(
            f"no class of transformers is known for {config.architectures or config.model_type}",
            where=str(folder / "config.json"),
            fix="load it in a factory of yours, path/to/file.py:factory",
        )
    return _Request(_class(transformers, named[0]), config, folder, is_changed=False)


def _change(request: _Request, overrides: Config, *, is_tiny: bool, where: str) -> _Request:
    """Make the configuration tiny, then override it; caches are off in any case."""
    before = request.config.to_dict()
    forms: list[Callable[[Config], Config]] = [make_tiny, make_shallow] if is_tiny else [dict]
    problem: Exception | None = None
    for form in forms:
        made = _set_all(form(before), _OFFLINE)
        for key, value in overrides.items():
            made = _override(made, key.split("."), value, where)
        made = keep_layers(made, before) if overrides and not is_tiny else made
        if is_tiny or overrides:
            made = _without_derived(made)
        try:
            changed = type(request.config)(**made)
        except Exception as error:  # noqa: BLE001  a validator of the class, or its arithmetic
            problem = error
            continue
        changed._attn_implementation = request.config._attn_implementation
        attempt = _Request(request.kind, changed, request.folder, is_tiny)
        if not is_tiny or _on_meta(attempt) is not None or form is forms[-1]:
            return attempt
    raise InputError(
        f"the configuration is refused: {_first_line(problem)}",
        where=where,
        fix="change other values that belong to it, too",
    ) from problem


def _set_all(config: Config, values: Mapping[str, Any]) -> Config:
    """Set values wherever a configuration, or one inside it, has them."""
    made = {k: values.get(k, v) for k, v in config.items()}
    return {
        k: _set_all(dict(v), values) if isinstance(v, Mapping) and "model_type" in v else v
        for k, v in made.items()
    }


def _override(config: Config, path: list[str], value: Any, where: str) -> Config:
    name, *rest = path
    if name not in config or (rest and not isinstance(config[name], Mapping)):
        near = get_close_matches(name, config)
        raise InputError(
            f"the configuration has no {name!r}" + (f"; near: {', '.join(near)}" if near else ""),
            where=where,
            fix=f"write one of its keys: {', '.join(near or [k for k in config if '_' in k][:6])}",
        )
    new = _override(dict(config[name]), rest, value, where) if rest else value
    return {**config, name: new}


def _without_derived(config: Config) -> Config:
    return {
        k: _without_derived(dict(v)) if isinstance(v, Mapping) and "model_type" in v else v
        for k, v in config.items()
        if k not in _DERIVED
    }


def _on_meta(request: _Request) -> nn.Module | None:
    """Build without data, to count and to try; None if that cannot be done."""
    try:
        with torch.device("meta"):
            module: nn.Module = request.kind(request.config)
            return module.eval()
    except Exception:  # noqa: BLE001  the real one says what is wrong
        return None


def _check_memory(parameters: int, where: str) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _PEAK * _BYTES * parameters > memory:
        raise InputError(
            f"{parameters / 1e9:.1f} B parameters take {_BYTES * parameters / 2**30:.0f} GiB, and "
            f"pruning {_PEAK} times that; this machine has {memory / 2**30:.0f} GiB",
            where=where,
            fix=f"write {where.partition('?')[0]}:tiny, or override sizes: "
            f"'{where.partition('?')[0]}?num_hidden_layers=2'",
        )


def _construct(request: _Request, where: str) -> nn.Module:
    try:
        module: nn.Module = request.kind(request.config)
    except Exception as error:
        raise InputError(
            f"{request.kind.__name__} cannot be built: {_first_line(error)}",
            where=where,
            fix="override the values named, 'hf:NAME?key=value'",
        ) from error
    return module


def _load(request: _Request, folder: Path) -> nn.Module:
    if not any(folder.glob("*.safetensors")):
        raise OSError(f"{folder} holds no safetensors")
    try:
        module, found = request.kind.from_pretrained(
            folder,
            config=request.config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # damaged files, other shapes, a quantiser that is not there
        raise InputError(
            f"the weights cannot be loaded: {_first_line(error)}",
            where=str(folder),
            fix="save the folder again with save_pretrained, or pass --weights random",
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise InputError(
            f"{len(missing)} weights are missing ({', '.join(missing[:3])})",
            where=str(folder),
            fix="name in config.json, under architectures, the class that was saved",
        )
    loaded: nn.Module = module
    return loaded


def _find_inputs(
    empty: nn.Module | None, module: nn.Module, request: _Request, seed: int
) -> Inputs | None:
    """Take the first proposal on which the model runs, without data if it can."""
    proposals = list(propose_inputs(module, request.config.to_dict()))
    for model in (empty, module):
        for proposal in proposals if model is not None else ():
            inputs = make_inputs(proposal, seed=seed)
            if model is not None and _runs(model, inputs):
                return inputs
    return None


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    placed = map_tensors(inputs, lambda t: t.to(device))
    mode = model.training
    try:
        with torch.no_grad(), device, torch.random.fork_rng(devices=[]):
            model.eval()(*placed.args, **placed.kwargs)
    except Exception:  # noqa: BLE001  it does not run on these; the next may do
        return False
    finally:
        model.train(mode)
    return True


def _first_line(error: BaseException | None) -> str:
    text = str(error).strip() if error is not None else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
