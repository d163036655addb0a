"""Find the model that a MODEL name stands for."""

import fnmatch
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from shrink.artifact.manifest import MANIFEST, PLAN
from shrink.core.errors import InputError
from shrink.core.inputs import Inputs
from shrink.models.factory import build_factory
from shrink.models.folder import build_artifact
from shrink.models.hugging_face import build_hugging_face, list_hugging_face
from shrink.models.input_shapes import parse_inputs
from shrink.models.source import Built, unknown_name
from shrink.models.timm import build_timm, list_timm
from shrink.models.torchvision import build_torchvision, list_torchvision
from shrink.models.weights_file import check_finite, load_weights


@dataclass(frozen=True)
class _Scheme:
    """A library whose models are written with its name before theirs."""

    build: Callable[[str, str, int], Built]
    names: Callable[[], list[str]]


_SCHEMES = {
    "timm": _Scheme(build_timm, list_timm),
    "hf": _Scheme(build_hugging_face, list_hugging_face),
}


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
        name: torchvision name, `timm:NAME`, `hf:NAME`, `package.module:factory`,
            `path/to/file.py:factory` or an artifact folder. A factory returns a module, or
            `(module, example_inputs)`. `hf:NAME` is described in `hugging_face.py`.
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
        built = replace(built, note=load_weights(built.module, file), warnings=())
    check_finite(built.module)
    inputs = shapes or built.inputs or (None if inputs_required else Inputs())
    if inputs is None:
        raise InputError(
            "no example inputs are known for it",
            where=name,
            fix="pass --input 1,3,224,224; a factory may return (module, example_inputs)",
        )
    return ResolvedModel(built.module.eval(), inputs, name, built.note, built.warnings)


def list_models(pattern: str = "") -> list[str]:
    """List the names that `resolve` knows without a path, sorted.

    Args:
        pattern: a glob, or a part of the name; `timm:` or `hf:` at its beginning lists those of
            timm or transformers instead of torchvision's.

    Raises:
        InputError: the library that is asked for is not installed.
    """
    scheme, colon, rest = pattern.partition(":")
    if scheme not in _SCHEMES or not colon:
        scheme, colon, rest = "", "", pattern
    names = _SCHEMES[scheme].names() if scheme else list_torchvision()
    glob = rest if any(c in rest for c in "*?[") else f"*{rest}*"
    return sorted(scheme + colon + n for n in names if fnmatch.fnmatchcase(n, glob))


def _find_source(name: str) -> Callable[[str, int], Built]:
    scheme, _, rest = name.partition(":")
    if scheme in _SCHEMES and rest:
        return functools.partial(_SCHEMES[scheme].build, rest)
    # A folder that is called like a model is written ./resnet50.
    if re.fullmatch(r"\w+", name) and name in list_torchvision():
        return functools.partial(build_torchvision, name)
    if any((Path(name) / file).is_file() for file in (MANIFEST, PLAN)):
        return functools.partial(build_artifact, Path(name))
    target, _, attribute = name.rpartition(":")
    if target and attribute:
        return functools.partial(build_factory, target, attribute)
    raise unknown_name(name, list_torchvision())
