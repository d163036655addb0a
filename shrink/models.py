"""MODEL names: what a person writes on the command line, turned into a module and example inputs.

Names: a torchvision name, `timm:NAME`, `package.module:factory`, `path/to/file.py:factory`, or an
artifact folder.
"""

import difflib
import fnmatch
import functools
import hashlib
import http.client
import importlib
import importlib.util
import inspect
import pickle
import re
import sys
import threading
import urllib.request
import warnings as python_warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shrink.artifact.load import load
from shrink.artifact.manifest import MANIFEST, PLAN
from shrink.artifact.plan_file import read_plan
from shrink.core.errors import InputError
from shrink.core.inputs import Inputs, as_inputs, make_inputs

PROBE_SECONDS = 5.0
_WEIGHTS_FIX = "pass --weights FILE, or --weights random"
# What training scripts call the weights in a checkpoint; averaged ones are the ones evaluated.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_DOWNLOAD_ERRORS = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError)


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A MODEL name, found.

    Args:
        module: in eval mode, all parameters finite.
        inputs: example inputs, batch 1, for one forward call.
        name: as the user wrote it.
        weights_note: where the weights come from; `recall_weights` reads it back.
        warnings: what the reader of a report must know.
    """

    module: nn.Module
    inputs: Inputs
    name: str
    weights_note: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Built:
    """A module with what its source knows; `inputs` is None where the source cannot know."""

    module: nn.Module
    inputs: Inputs | None
    note: str
    warnings: tuple[str, ...] = ()


def resolve(
    name: str,
    *,
    weights: str = "auto",
    input: str | None = None,  # noqa: A002  the name of the command line's option
    seed: int = 0,
    inputs_required: bool = True,
) -> ResolvedModel:
    """Turn a MODEL name into a module in eval mode and example inputs.

    Args:
        name: torchvision name, `timm:NAME`, `package.module:factory`, `path/to/file.py:factory`
            or an artifact folder. A factory returns a module, or `(module, example_inputs)`.
        weights: `auto` (pretrained where they can be had, else random ones and a warning),
            `pretrained`, `random`, or a file: safetensors, or a state dict.
        input: shapes as for `parse_inputs`; None for the model's own.
        seed: of random weights and example inputs; the caller's random state is left alone.
        inputs_required: False for who has inputs of their own: a factory need not give any.

    Raises:
        InputError: the name is unknown, the weights cannot be had, do not fit or are not finite.
    """
    file = None if weights in ("auto", "pretrained", "random") else Path(weights)
    if file and not file.is_file():
        raise InputError(
            f"no weights file {weights!r}",
            where="--weights",
            fix="pass auto, pretrained, random, or an existing file",
        )
    shapes = parse_inputs(input, seed=seed) if input else None
    build = _find_source(name)
    built = build("file" if file else weights, seed)
    if file:
        built = replace(built, note=_load_weights(built.module, file), warnings=())
    check_finite(built.module)
    inputs = shapes or built.inputs or (None if inputs_required else Inputs())
    if inputs is None:
        raise InputError(
            "the factory gives no example inputs",
            where=name,
            fix="pass --input 1,3,224,224, or return (module, example_inputs)",
        )
    return ResolvedModel(built.module.eval(), inputs, name, built.note, built.warnings)


def list_models(pattern: str = "") -> list[str]:
    """List the names that `resolve` knows without a path, sorted.

    Args:
        pattern: a glob, or a part of the name; `timm:` at its beginning lists timm's instead of
            torchvision's.
    """
    prefix, _, rest = pattern.rpartition(":")
    if prefix == "timm":
        names = [f"timm:{n}" for n in _import_timm().list_models()]
    else:
        rest, names = pattern, importlib.import_module("torchvision.models").list_models()
    glob = rest if any(c in rest for c in "*?[") else f"*{rest}*"
    return sorted(n for n in names if fnmatch.fnmatch(n.removeprefix("timm:"), glob))


def parse_inputs(text: str, *, seed: int = 0) -> Inputs:
    """Make random example inputs from shapes.

    Args:
        text: `1,3,224,224`; several inputs are separated by `;`, a dtype follows a colon
            (`1,128:int64`, integers are drawn from 0 and 1), a keyword comes before an equals
            sign (`mask=1,128:bool`).
        seed: of the values.

    Raises:
        InputError: the text is not of that form.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for entry in text.split(";"):
        match = re.fullmatch(
            r"\s*(?:(?P<key>\w+)\s*=)?\s*(?P<shape>\d+(?:\s*,\s*\d+)*)\s*(?::(?P<dtype>\w+))?\s*",
            entry,
        )
        dtype = (match and match["dtype"]) or "float32"
        if not match or not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise InputError(
                f"cannot read {entry!r} as a shape",
                where="--input",
                fix="write --input 1,3,224,224 or --input '1,128:int64;mask=1,128:bool'",
            )
        shape = [int(size) for size in match["shape"].split(",")]
        tensor = _tensor(*shape, dtype=dtype)
        if match["key"]:
            kwargs[match["key"]] = tensor
        else:
            args.append(tensor)
    return make_inputs({"args": args, "kwargs": kwargs}, seed=seed)


def recall_weights(note: str) -> tuple[str, int]:
    """Read a `weights_note` back as the (`weights`, `seed`) that make `resolve` repeat it."""
    seed = re.search(r"\(seed (\d+)\)$", note)
    file = re.match(r"file (.*?)(?: \[\w+\])?$", note)
    if file:
        return file[1], 0
    kind = note.split(" ", 1)[0]
    return kind if kind in ("pretrained", "random") else "auto", int(seed[1]) if seed else 0


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


def _find_source(name: str) -> Callable[[str, int], _Built]:
    scheme, _, rest = name.partition(":")
    if scheme == "timm" and rest:
        return functools.partial(_build_timm, rest)
    # A folder that is called like a model is written ./resnet50.
    if re.fullmatch(r"\w+", name) and name in list_models():
        return functools.partial(_build_torchvision, name)
    if any((Path(name) / file).is_file() for file in (MANIFEST, PLAN)):
        return functools.partial(_build_artifact, Path(name))
    target, _, attribute = name.rpartition(":")
    if target and attribute:
        return functools.partial(_build_factory, target, attribute)
    raise _unknown(name, list_models())


def _unknown(name: str, known: list[str]) -> InputError:
    if Path(name).is_dir():
        return InputError(
            "the folder is no artifact", where=name, fix="pass a folder that shrink wrote"
        )
    if name.endswith(".py"):
        return InputError(
            "a file needs the name of a factory in it", where=name, fix=f"write {name}:build_model"
        )

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    by_plain = {plain(n): n for n in known}
    near = [n for n in by_plain if plain(name) and n.startswith(plain(name))]
    near += difflib.get_close_matches(plain(name), by_plain, n=4, cutoff=0.6)
    matches = ", ".join(by_plain[n] for n in dict.fromkeys(near[:4]))
    return InputError(
        f"no model of that name{f'; near: {matches}' if matches else ''}",
        where=name or "MODEL",
        fix="run `shrink models` for the names, or write path/to/file.py:factory",
    )


# Example inputs by the kind of preprocessing that torchvision publishes with a model.


def _tensor(*shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"tensor": {"shape": list(shape), "dtype": dtype}}


def _images(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001  one signature for all
    return [_tensor(1, 3, size, size)]


def _clips(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    return [_tensor(1, 3, 16, size, size)]


def _image_pairs(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    return [_tensor(1, 3, 128, 128)] * 2


def _image_lists(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    # Any: torchvision's GeneralizedRCNNTransform; it resizes every image to this size in eval mode
    transform: Any = module.transform
    height, width = transform.fixed_size or (transform.min_size[-1],) * 2
    return [{"list": [_tensor(3, height, width)]}]


_FAMILIES: Mapping[str, Callable[[nn.Module, int], list[Any]]] = {
    "ImageClassification": _images,
    "SemanticSegmentation": _images,
    "VideoClassification": _clips,
    "OpticalFlow": _image_pairs,
    "ObjectDetection": _image_lists,
}


def _crop(entry: Any) -> int:  # Any: a torchvision WeightsEnum member
    sizes = getattr(entry.transforms, "keywords", {})  # a bare class has no sizes to bind
    size = sizes.get("crop_size", sizes.get("resize_size", 224))
    return int(size if isinstance(size, int) else size[0])


def _build_torchvision(name: str, weights: str, seed: int) -> _Built:
    models = importlib.import_module("torchvision.models")
    # A quantizable model takes the float weights of its plain form.
    published = models.get_model_weights(name.removeprefix("quantized_"))
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    entry = published.DEFAULT

    def download() -> nn.Module:
        _download(entry.url)
        return models.get_model(name, weights=entry)  # type: ignore[no-any-return]

    with _quiet(), _seeded(seed):
        module, note, warnings = _choose_weights(
            weights, seed, download, lambda: models.get_model(name, weights=None, **backbone), entry
        )
    # Weights fix the resolution they were trained at; random ones take the smallest in use.
    size = _crop(entry) if note.startswith("pretrained") else min(map(_crop, published))
    family = _FAMILIES[getattr(entry.transforms, "func", entry.transforms).__name__]
    inputs = make_inputs({"args": family(module, size), "kwargs": {}}, seed=seed)
    return _Built(module, inputs, note, warnings)


def _import_timm() -> ModuleType:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(
            "timm is not installed", where="timm:", fix="pip install 'shrink[timm]'"
        ) from error


def _build_timm(name: str, weights: str, seed: int) -> _Built:
    timm = _import_timm()
    if not timm.is_model(name):
        raise _unknown(name, timm.list_models())
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(
            str(error), where=f"timm:{name}", fix=f"write timm:{name.partition('.')[0]}"
        ) from error

    def download() -> nn.Module:
        if not config or not config.has_weights:
            raise OSError("timm publishes none for this model")
        file = _cached_by_hub(config.hf_hub_id)
        if not file:
            _probe("https://huggingface.co" if config.hf_hub_id else config.url)
        overlay = {"file": file} if file else None
        made: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        return made

    with _quiet(), _seeded(seed):
        module, note, warnings = _choose_weights(
            weights,
            seed,
            download,
            lambda: timm.create_model(name),
            f"{name}.{config.tag}" if config and config.tag else name,
        )
    # Any: timm sets its configuration as an attribute of the module
    settings: Any = module.pretrained_cfg
    shape = settings["input_size"]
    inputs = make_inputs({"args": [_tensor(1, *shape)], "kwargs": {}}, seed=seed)
    return _Built(module, inputs, note, warnings)


def _cached_by_hub(repository: str | None) -> str | None:
    if not repository:
        return None
    hub = importlib.import_module("huggingface_hub")
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = hub.try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return path
    return None


def _choose_weights(
    weights: str,
    seed: int,
    download: Callable[[], nn.Module],
    initialise: Callable[[], nn.Module],
    published: object,
) -> tuple[nn.Module, str, tuple[str, ...]]:
    """Build with pretrained weights, or random ones; returns (module, note, warnings)."""
    warnings: tuple[str, ...] = ()
    if weights in ("auto", "pretrained"):
        try:
            return download(), f"pretrained ({published})", ()
        except (*_DOWNLOAD_ERRORS, http.client.HTTPException) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            if weights == "pretrained":
                raise InputError(
                    f"pretrained weights cannot be had: {cause}",
                    where=str(published),
                    fix=_WEIGHTS_FIX,
                ) from error
            warnings = (
                f"the weights are RANDOM (seed {seed}): pretrained ones could not be had ({cause});"
                " what is kept and how accurate it is mean nothing, cost and proof do",
            )
    # The generator moved if the download failed half-way.
    torch.default_generator.manual_seed(seed)
    return initialise(), f"random (seed {seed})", warnings


def _download(url: str) -> None:
    """Put a published file where torch.hub looks for it, unless it is there.

    Raises:
        OSError: it cannot be had; within `PROBE_SECONDS` where there is no network.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if file.is_file():
        return
    _probe(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    expected = re.search(r"-([a-f0-9]{8,})\.", file.name)
    torch.hub.download_url_to_file(url, str(file), expected and expected[1], progress=False)


def _probe(url: str) -> None:
    """Ask for a page's head; name resolution has no time limit of its own, so in a thread."""
    outcome: list[BaseException | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310  published https
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()  # noqa: S310
            outcome.append(None)
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    host = urlparse(url).netloc
    if not outcome:
        raise OSError(f"{host} does not answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise OSError(f"{host}: {getattr(outcome[0], 'reason', outcome[0])}") from outcome[0]


def _build_artifact(folder: Path, weights: str, seed: int) -> _Built:
    if weights != "auto":
        raise InputError(
            "an artifact folder has its own weights", where=str(folder), fix="leave --weights out"
        )
    inputs = make_inputs(read_plan(folder / PLAN).inputs, seed=seed)
    return _Built(load(folder), inputs, "from the artifact")


def _build_factory(target: str, attribute: str, weights: str, seed: int) -> _Built:
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
            with _seeded(seed):
                found = _call(found, name)
    module, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"the factory returned no module, but of type {type(module).__name__}",
            where=name,
            fix="return a torch.nn.Module, or (module, example_inputs)",
        )
    note = f"from the factory (seed {seed})"
    return _Built(module, None if inputs is None else as_inputs(inputs), note)


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


def _load_weights(module: nn.Module, file: Path) -> str:
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
        with _quiet():
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


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a seeded CPU generator inside; CUDA's generators are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the deprecation warnings of the libraries' own builders: nobody can act on them."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        yield


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
